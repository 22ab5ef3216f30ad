"""The SQL of users and their profiles. Callers own the connections and their transactions.

Every change of a user sets its update_time and increments its version, which is the etag.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from chassis import errors, idempotency
from chassis.caller import Role
from chassis.database import Connection, fetch
from chassis.idempotency import RepeatableRequest
from services.user.domain import Address, Profile, User

_COLUMNS: LiteralString = (
    "user_id, email, display_name, addresses, role, email_verified, version, create_time,"
    " update_time"
)


async def insert_user(
    connection: Connection,
    profile: Profile,
    password_hash: str,
    request: RepeatableRequest | None = None,
) -> User | None:
    """Insert a user; return None if the e-mail address is taken, or the request is repeated."""
    found = await fetch(
        connection,
        _to_user,
        "INSERT INTO users (email, display_name, addresses, password_hash, creator_id,"
        " idempotency_key, request_hash) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        f" ON CONFLICT DO NOTHING RETURNING {_COLUMNS}",
        (
            profile.email,
            profile.display_name,
            _to_json(profile.addresses),
            password_hash,
            request and request.user_id,
            request and request.idempotency_key,
            request and request.request_hash,
        ),
    )
    return found[0] if found else None


async def get_created_user(connection: Connection, request: RepeatableRequest | None) -> User:
    """Get the user whom a request has made, which inserts none when it is repeated.

    Raises:
        errors.AlreadyExists: it has made none, because the e-mail address is taken.
        errors.KeyReused: the user was made by another request with the same key.
    """
    user_id = await idempotency.find_made(
        connection, "SELECT user_id, request_hash FROM users", request
    )
    if user_id is None:
        raise _email_taken()
    return await get_user(connection, user_id)


async def get_user(connection: Connection, user_id: uuid.UUID, *, lock: bool = False) -> User:
    """Get a user; `lock` locks the row until the transaction ends.

    Raises:
        errors.NotFound: the user does not exist.
    """
    found = await get_users(connection, [user_id], lock=lock)
    if not found:
        raise errors.not_found("user", user_id)
    return found[0]


async def get_users(
    connection: Connection, user_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> list[User]:
    """Get the existing ones of the users, in the order of their ids; `lock` is as for one."""
    return await fetch(
        connection,
        _to_user,
        f"SELECT {_COLUMNS} FROM users WHERE user_id = ANY(%s) ORDER BY user_id"
        + (" FOR UPDATE" if lock else ""),
        (list(user_ids),),
    )


async def list_users(connection: Connection, after: uuid.UUID | None, limit: int) -> list[User]:
    """List at most `limit` users, oldest first, after an id or from the beginning."""
    return await fetch(
        connection,
        _to_user,
        f"SELECT {_COLUMNS} FROM users WHERE %(after)s::uuid IS NULL OR user_id > %(after)s"
        " ORDER BY user_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )


async def update_profile(connection: Connection, user_id: uuid.UUID, profile: Profile) -> User:
    """Replace the profile of a user, whose row is locked. A new e-mail address is not verified.

    Raises:
        errors.AlreadyExists: the e-mail address is taken.
    """
    query: LiteralString = (
        "UPDATE users SET email = %(email)s, display_name = %(display_name)s,"
        " addresses = %(addresses)s, email_verified = email_verified AND email = %(email)s,"
        " version = version + 1, update_time = now()"
        f" WHERE user_id = %(user_id)s RETURNING {_COLUMNS}"
    )
    parameters = {
        "email": profile.email,
        "display_name": profile.display_name,
        "addresses": _to_json(profile.addresses),
        "user_id": user_id,
    }
    try:
        (user,) = await fetch(connection, _to_user, query, parameters)
    except psycopg.errors.UniqueViolation as error:
        raise _email_taken() from error
    return user


async def delete_user(connection: Connection, user_id: uuid.UUID) -> None:
    """Delete a user.

    Raises:
        errors.NotFound: the user does not exist.
    """
    cursor = await connection.execute("DELETE FROM users WHERE user_id = %s", (user_id,))
    if cursor.rowcount == 0:
        raise errors.not_found("user", user_id)


def _email_taken() -> errors.AlreadyExists:
    return errors.AlreadyExists("EMAIL_TAKEN", "There is a user with this e-mail address already.")


def _to_json(addresses: Sequence[Address]) -> Jsonb:
    return Jsonb([asdict(address) for address in addresses])


def _to_user(
    user_id: uuid.UUID,
    email: str,
    display_name: str,
    addresses: Sequence[Mapping[str, Any]],
    role: str,
    email_verified: bool,
    version: int,
    create_time: dt.datetime,
    update_time: dt.datetime,
) -> User:
    parsed = tuple(Address(**{**item, "lines": tuple(item["lines"])}) for item in addresses)
    profile = Profile(email, display_name, parsed)
    return User(user_id, profile, Role(role), email_verified, version, create_time, update_time)
