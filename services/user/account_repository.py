"""The SQL of how users log in, and as what: addresses, passwords, outside identities and roles.

Callers own the connections and their transactions, except for `delete_expired_id_tokens`. Profiles
are in `repository`.
"""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from chassis import errors, sweeping
from chassis.caller import Role
from chassis.database import Connection, Database, fetch

# An arbitrary key, which nothing else in this database locks.
_ADMIN_LOCK_KEY = 0x61646D696E

_SAME_EMAIL: LiteralString = (
    "casefold(email COLLATE pg_unicode_fast) = casefold(%s COLLATE pg_unicode_fast)"
)


@dataclass(frozen=True, slots=True)
class Account:
    """What a login needs to know of a user."""

    user_id: uuid.UUID
    email: str
    email_verified: bool
    password_hash: str | None
    """None for a user of an outside identity provider who has not set a password."""


async def find_account(connection: Connection, email: str) -> Account | None:
    """Return the account with an e-mail address, in whatever case; None if there is none."""
    query: LiteralString = (
        f"SELECT user_id, email, email_verified, password_hash FROM users WHERE {_SAME_EMAIL}"
    )
    found = await fetch(connection, Account, query, (email,))
    return found[0] if found else None


async def lock_account(connection: Connection, user_id: uuid.UUID) -> Account | None:
    """Return the account of a user, whose row is locked until the transaction ends, or None."""
    query: LiteralString = (
        "SELECT user_id, email, email_verified, password_hash FROM users WHERE user_id = %s"
        " FOR UPDATE"
    )
    found = await fetch(connection, Account, query, (user_id,))
    return found[0] if found else None


async def insert_unless_taken(
    connection: Connection,
    email: str,
    display_name: str,
    password_hash: str | None,
    *,
    email_verified: bool = False,
) -> uuid.UUID | None:
    """Insert a customer and return the id, or None if the e-mail address is taken."""
    cursor = await connection.execute(
        "INSERT INTO users (email, display_name, password_hash, email_verified)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING user_id",
        (email, display_name, password_hash, email_verified),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def lock_identity(connection: Connection, issuer: str, subject: str) -> uuid.UUID | None:
    """Return the user with an outside identity, or None.

    Until the transaction ends, another one that asks for the same identity waits.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, hashtextextended(%s, 0)))",
        (subject, issuer),
    )
    cursor = await connection.execute(
        "SELECT user_id FROM outside_identities WHERE issuer = %s AND subject = %s",
        (issuer, subject),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def insert_identity(
    connection: Connection, issuer: str, subject: str, user_id: uuid.UUID
) -> None:
    """Link an outside identity, which is locked, to a user."""
    await connection.execute(
        "INSERT INTO outside_identities (issuer, subject, user_id) VALUES (%s, %s, %s)",
        (issuer, subject, user_id),
    )


async def use_id_token(connection: Connection, digest: bytes, expire_time: dt.datetime) -> bool:
    """Note that an ID token is used; return whether it was not before, as for one caller only."""
    cursor = await connection.execute(
        "INSERT INTO used_id_tokens (digest, expire_time) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (digest, expire_time),
    )
    return cursor.rowcount == 1


async def delete_expired_id_tokens(database: Database) -> None:
    """Delete used ID tokens that have expired, and so would be refused anyway."""
    await sweeping.sweep(database, "used_id_tokens", "expire_time < now()")


async def take_over(connection: Connection, user_id: uuid.UUID) -> None:
    """Give an account, whose row is locked, to the owner of its e-mail address, who is verified.

    Nobody has a password, or another outside identity, by which to log in.
    """
    await delete_identities(connection, user_id)
    await connection.execute(
        "UPDATE users SET password_hash = NULL, email_verified = true, version = version + 1,"
        " update_time = now() WHERE user_id = %s",
        (user_id,),
    )


async def delete_identities(connection: Connection, user_id: uuid.UUID) -> None:
    """Unlink all outside identities of a user."""
    await connection.execute("DELETE FROM outside_identities WHERE user_id = %s", (user_id,))


async def get_password_hash(connection: Connection, user_id: uuid.UUID) -> str | None:
    """Get the password hash of a user, who may have no password.

    Raises:
        errors.NotFound: the user does not exist.
    """
    query: LiteralString = "SELECT password_hash FROM users WHERE user_id = %s"
    row = await (await connection.execute(query, (user_id,))).fetchone()
    if row is None:
        raise errors.not_found("user", user_id)
    password_hash: str | None = row[0]
    return password_hash


async def set_password_hash(connection: Connection, user_id: uuid.UUID, password_hash: str) -> None:
    """Replace the password hash of a user, whose row is locked."""
    await connection.execute(
        "UPDATE users SET password_hash = %s, version = version + 1, update_time = now()"
        " WHERE user_id = %s",
        (password_hash, user_id),
    )


async def rehash(
    connection: Connection, user_id: uuid.UUID, current: str, replacement: str
) -> bool:
    """Replace a hash by another one of the same password, and return True, if it is `current`.

    To clients nothing has changed: the version stays.
    """
    cursor = await connection.execute(
        "UPDATE users SET password_hash = %s WHERE user_id = %s AND password_hash = %s",
        (replacement, user_id, current),
    )
    return cursor.rowcount == 1


async def set_verified_email(connection: Connection, user_id: uuid.UUID, email: str) -> None:
    """Set the e-mail address of a user, whose row is locked, as one that is verified.

    Raises:
        errors.AlreadyExists: the e-mail address is taken.
    """
    try:
        await connection.execute(
            "UPDATE users SET email = %(email)s, email_verified = true, version = version + 1,"
            " update_time = now()"
            " WHERE user_id = %(user_id)s AND (email <> %(email)s OR NOT email_verified)",
            {"email": email, "user_id": user_id},
        )
    except psycopg.errors.UniqueViolation as error:
        message = "Another user has this e-mail address meanwhile."
        raise errors.AlreadyExists("EMAIL_TAKEN", message) from error


async def set_role(connection: Connection, user_id: uuid.UUID, role: Role) -> None:
    """Set the role of a user, whose row is locked."""
    await connection.execute(
        "UPDATE users SET role = %s, version = version + 1, update_time = now() WHERE user_id = %s",
        (role.value, user_id),
    )


async def make_first_admin(
    connection: Connection, email: str, password_hash: str
) -> uuid.UUID | None:
    """Make a user an admin, and return the id, unless there is an admin.

    A user who has the e-mail address already gets the password, as it may not be theirs. Of
    concurrent calls, one makes an admin.
    """
    await _lock_admins(connection)
    cursor = await connection.execute(
        """
        INSERT INTO users (email, display_name, password_hash, role, email_verified)
        SELECT %s, 'Admin', %s, 'admin', true
         WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin')
            ON CONFLICT (casefold(email COLLATE pg_unicode_fast)) DO UPDATE
           SET role = 'admin', email_verified = true, password_hash = excluded.password_hash,
               version = users.version + 1, update_time = now()
        RETURNING user_id
        """,
        (email, password_hash),
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def has_other_admin(connection: Connection, user_id: uuid.UUID) -> bool:
    """Return whether there is an admin besides a user, whose row is locked.

    Until the transaction ends, other transactions wait here: the other admin remains one.
    """
    await _lock_admins(connection)
    cursor = await connection.execute(
        "SELECT FROM users WHERE role = 'admin' AND user_id <> %s LIMIT 1", (user_id,)
    )
    return cursor.rowcount == 1


async def has_admin(connection: Connection) -> bool:
    """Return whether there is an admin."""
    cursor = await connection.execute("SELECT FROM users WHERE role = 'admin' LIMIT 1")
    return cursor.rowcount == 1


async def _lock_admins(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADMIN_LOCK_KEY,))
