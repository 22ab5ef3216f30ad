"""The SQL of mails that wait to be sent. Callers own the connections and their transactions."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from chassis.database import Connection, fetch
from services.user.mail import Template


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
