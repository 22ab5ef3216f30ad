"""All the SQL of the user service. Takes a connection, returns domain objects, never commits.

Every change of a user sets its update_time and increments its version, which is the etag.
"""

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from chassis import errors
from chassis.database import Connection
from services.user.domain import Address, Profile, User

_COLUMNS: LiteralString = (
    "user_id, email, display_name, addresses, version, create_time, update_time"
)


async def insert_users(connection: Connection, users: Sequence[tuple[Profile, str]]) -> list[User]:
    """Insert profiles with their password hashes, all or none; return them in the same order.

    Raises:
        errors.AlreadyExists: an e-mail address is taken.
    """
    ids = await _new_ids(connection, len(users))
    try:
        cursor = await connection.execute(
            "INSERT INTO users (user_id, email, display_name, addresses, password_hash)"
            " SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::text[])"
            f" RETURNING {_COLUMNS}",
            (
                ids,
                [profile.email for profile, _ in users],
                [profile.display_name for profile, _ in users],
                [_to_json(profile.addresses) for profile, _ in users],
                [password_hash for _, password_hash in users],
            ),
        )
    except psycopg.errors.UniqueViolation as error:
        raise _email_taken() from error
    found = {row[0]: _to_user(row) for row in await cursor.fetchall()}
    return [found[user_id] for user_id in ids]


async def get_users(
    connection: Connection, user_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> list[User]:
    """Get those of the users that exist, by id; `lock` keeps them until the transaction ends."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM users WHERE user_id = ANY(%s) ORDER BY user_id"
        + (" FOR UPDATE" if lock else ""),
        (list(user_ids),),
    )
    return [_to_user(row) for row in await cursor.fetchall()]


async def list_users(connection: Connection, after: uuid.UUID | None, limit: int) -> list[User]:
    """List users, oldest first, beginning after an id: at most `limit`."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM users WHERE %(after)s::uuid IS NULL OR user_id > %(after)s"
        " ORDER BY user_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return [_to_user(row) for row in await cursor.fetchall()]


async def update_profile(connection: Connection, user_id: uuid.UUID, profile: Profile) -> User:
    """Replace the profile of a user that is locked.

    Raises:
        errors.AlreadyExists: the e-mail address is taken.
    """
    try:
        cursor = await connection.execute(
            "UPDATE users SET email = %s, display_name = %s, addresses = %s,"
            " version = version + 1, update_time = now()"
            f" WHERE user_id = %s RETURNING {_COLUMNS}",
            (profile.email, profile.display_name, _to_json(profile.addresses), user_id),
        )
    except psycopg.errors.UniqueViolation as error:
        raise _email_taken() from error
    (row,) = await cursor.fetchall()
    return _to_user(row)


async def delete_user(connection: Connection, user_id: uuid.UUID) -> bool:
    """Delete a user; tell whether there was one."""
    cursor = await connection.execute("DELETE FROM users WHERE user_id = %s", (user_id,))
    return cursor.rowcount == 1


async def get_password_hash(connection: Connection, user_id: uuid.UUID) -> str | None:
    """Get the password hash of a user, if there is such a user."""
    cursor = await connection.execute(
        "SELECT password_hash FROM users WHERE user_id = %s", (user_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def replace_password_hash(
    connection: Connection, user_id: uuid.UUID, current: str, replacement: str
) -> bool:
    """Replace a password hash if it is still the current one; tell whether it was."""
    cursor = await connection.execute(
        "UPDATE users SET password_hash = %s, version = version + 1, update_time = now()"
        " WHERE user_id = %s AND password_hash = %s",
        (replacement, user_id, current),
    )
    return cursor.rowcount == 1


async def _new_ids(connection: Connection, count: int) -> list[uuid.UUID]:
    cursor = await connection.execute("SELECT uuidv7() FROM generate_series(1, %s)", (count,))
    return [row[0] for row in await cursor.fetchall()]


def _email_taken() -> errors.AlreadyExists:
    return errors.AlreadyExists("EMAIL_TAKEN", "There is a user with this e-mail address already.")


def _to_json(addresses: Sequence[Address]) -> Jsonb:
    return Jsonb([asdict(address) for address in addresses])


def _to_user(row: tuple[Any, ...]) -> User:
    user_id, email, display_name, addresses, version, create_time, update_time = row
    profile = Profile(
        email,
        display_name,
        tuple(Address(**{**item, "lines": tuple(item["lines"])}) for item in addresses),
    )
    return User(user_id, profile, version, create_time, update_time)
