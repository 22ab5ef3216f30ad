"""The SQL of mails that wait to be sent, and of the tokens in those that were.

Callers own the connections and their transactions, except for `delete_expired_tokens`.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from chassis import sweeping
from chassis.database import Connection, Database, fetch
from services.user.mail import Purpose, Template


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that waits to be sent."""

    mail_id: uuid.UUID
    template: Template
    email: str
    user_id: uuid.UUID | None
    """The user that it concerns; None for the user with the address, if there is one."""
    create_time: dt.datetime
    attempts: int
    """How often it was claimed."""
    age: dt.timedelta


async def add(
    connection: Connection, template: Template, email: str, user_id: uuid.UUID | None = None
) -> None:
    """Add a mail, to be sent soon after the transaction is committed."""
    await connection.execute(
        "INSERT INTO mails (template, email, user_id) VALUES (%s, %s, %s)",
        (template.value, email, user_id),
    )


async def claim(connection: Connection, lease: dt.timedelta, limit: int) -> list[Mail]:
    """Claim at most `limit` mails that are due: for the lease, no other process claims them."""
    query: LiteralString = """
        UPDATE mails SET due_time = now() + %s, attempts = attempts + 1
         WHERE mail_id IN (
               SELECT mail_id FROM mails WHERE due_time <= now()
                ORDER BY due_time LIMIT %s FOR UPDATE SKIP LOCKED)
        RETURNING mail_id, template, email, user_id, create_time, attempts, now() - create_time
    """
    return await fetch(connection, _to_mail, query, (lease, limit))


async def lock(connection: Connection, mail_id: uuid.UUID) -> bool:
    """Lock a mail until the transaction ends; return whether it was not deleted meanwhile.

    The row of its user is locked before, as where the mails of a user are cancelled.
    """
    query: LiteralString = "SELECT FROM mails WHERE mail_id = %s FOR UPDATE"
    return (await connection.execute(query, (mail_id,))).rowcount == 1


async def reschedule(connection: Connection, mail_id: uuid.UUID, delay: dt.timedelta) -> None:
    """Let a mail be due after a delay."""
    await connection.execute(
        "UPDATE mails SET due_time = now() + %s WHERE mail_id = %s", (delay, mail_id)
    )


async def delete(connection: Connection, mail_ids: Sequence[uuid.UUID]) -> None:
    """Delete mails that were sent or given up."""
    await connection.execute("DELETE FROM mails WHERE mail_id = ANY(%s)", (list(mail_ids),))


async def cancel(connection: Connection, user_id: uuid.UUID) -> None:
    """Delete the mails of a user that wait, and all tokens: no mail proves anything any more."""
    await connection.execute(
        "WITH mail AS (DELETE FROM mails WHERE user_id = %(user_id)s)"
        " DELETE FROM mail_tokens WHERE user_id = %(user_id)s",
        {"user_id": user_id},
    )


async def insert_token(
    connection: Connection,
    digest: bytes,
    purpose: Purpose,
    user_id: uuid.UUID,
    email: str,
    lifetime: dt.timedelta,
    most: int,
) -> bool:
    """Store a token and return True, unless the user has `most` that are valid for the purpose."""
    cursor = await connection.execute(
        "INSERT INTO mail_tokens (digest, purpose, user_id, email, expire_time)"
        " SELECT %(digest)s, %(purpose)s, %(user_id)s, %(email)s, now() + %(lifetime)s"
        " WHERE (SELECT count(*) FROM mail_tokens WHERE user_id = %(user_id)s"
        "        AND purpose = %(purpose)s AND expire_time > now()) < %(most)s",
        {
            "digest": digest,
            "purpose": purpose.value,
            "user_id": user_id,
            "email": email,
            "lifetime": lifetime,
            "most": most,
        },
    )
    return cursor.rowcount == 1


async def find_token(
    connection: Connection, digest: bytes, purpose: Purpose
) -> tuple[uuid.UUID, str] | None:
    """Return whose token it is, and the address that it was sent to; None if it is not valid."""
    cursor = await connection.execute(
        "SELECT user_id, email FROM mail_tokens"
        " WHERE digest = %s AND purpose = %s AND expire_time > now()",
        (digest, purpose.value),
    )
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])


async def delete_token(connection: Connection, digest: bytes) -> bool:
    """Delete a token; return whether it existed, which is so for one caller only."""
    cursor = await connection.execute("DELETE FROM mail_tokens WHERE digest = %s", (digest,))
    return cursor.rowcount == 1


async def delete_expired_tokens(database: Database) -> None:
    """Delete all tokens that have expired."""
    await sweeping.sweep(database, "mail_tokens", "expire_time < now()")


def _to_mail(
    mail_id: uuid.UUID,
    template: str,
    email: str,
    user_id: uuid.UUID | None,
    create_time: dt.datetime,
    attempts: int,
    age: dt.timedelta,
) -> Mail:
    return Mail(mail_id, Template(template), email, user_id, create_time, attempts, age)
