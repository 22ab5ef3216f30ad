"""The SQL of sessions and their refresh tokens.

Callers own the connections and their transactions, except for `delete_ended`.

Whoever changes what a session depends on, which is the password and the role of its user, does so
before ending the sessions, in one transaction: a session that begins meanwhile waits for the row of
the user, and a refresh holds the row of its session.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from chassis import sweeping
from chassis.caller import Role
from chassis.database import Connection, Database, fetch

CHANNEL: LiteralString = "revoked_sessions"
"""Announces that sessions were ended."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has not ended."""

    session_id: uuid.UUID
    user_id: uuid.UUID
    role: Role
    expire_time: dt.datetime


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a session before it expired."""

    session_id: uuid.UUID
    revoke_time: dt.datetime


async def open_session(
    connection: Connection,
    user_id: uuid.UUID,
    password_hash: str | None,
    lifetime: dt.timedelta,
    digest: bytes,
) -> Session | None:
    """Begin a session whose refresh token has a digest; None if the password hash has changed."""
    query: LiteralString = """
        WITH account AS (
            SELECT user_id, role FROM users
             WHERE user_id = %s AND password_hash IS NOT DISTINCT FROM %s FOR SHARE
        ), opened AS (
            INSERT INTO sessions (user_id, expire_time)
            SELECT user_id, now() + %s FROM account RETURNING session_id, user_id, expire_time
        ), token AS (
            INSERT INTO refresh_tokens (digest, session_id) SELECT %s, session_id FROM opened
        )
        SELECT session_id, user_id, role, expire_time FROM opened JOIN account USING (user_id)
    """
    found = await fetch(connection, _to_session, query, (user_id, password_hash, lifetime, digest))
    return found[0] if found else None


async def exchange_token(connection: Connection, used: bytes, following: bytes) -> Session | None:
    """Use a refresh token, by its digest, and store the following one of its session.

    Of concurrent calls for one token, one succeeds. Return None if the token is unknown or used, or
    its session has ended.
    """
    query: LiteralString = """
        WITH used AS (
            UPDATE refresh_tokens SET use_time = now() WHERE digest = %s AND use_time IS NULL
            RETURNING session_id
        ), live AS (
            SELECT session_id, user_id, expire_time FROM sessions
             WHERE session_id = (SELECT session_id FROM used)
               AND revoke_time IS NULL AND expire_time > now()
               FOR SHARE
        ), following AS (
            INSERT INTO refresh_tokens (digest, session_id) SELECT %s, session_id FROM live
        )
        SELECT session_id, user_id, role, expire_time FROM live JOIN users USING (user_id)
    """
    found = await fetch(connection, _to_session, query, (used, following))
    return found[0] if found else None


async def end_session_of_used_token(connection: Connection, digest: bytes) -> list[uuid.UUID]:
    """End the session of a refresh token that was used before; return it, if there is one."""
    condition: LiteralString = (
        "session_id ="
        " (SELECT session_id FROM refresh_tokens WHERE digest = %s AND use_time IS NOT NULL)"
    )
    return await _end(connection, condition, (digest,))


async def end_session(connection: Connection, digest: bytes) -> None:
    """End the session of a refresh token, used or not, if it has not ended."""
    condition: LiteralString = (
        "session_id = (SELECT session_id FROM refresh_tokens WHERE digest = %s)"
    )
    await _end(connection, condition, (digest,))


async def find_user(connection: Connection, digest: bytes) -> uuid.UUID | None:
    """Return whose refresh token it is, if it is unused and its session has not ended."""
    query: LiteralString = """
        SELECT user_id FROM sessions JOIN refresh_tokens AS token USING (session_id)
         WHERE token.digest = %s AND token.use_time IS NULL
           AND revoke_time IS NULL AND expire_time > now()
    """
    row = await (await connection.execute(query, (digest,))).fetchone()
    return None if row is None else row[0]


async def end_sessions_of_user(
    connection: Connection, user_id: uuid.UUID, *, kept: uuid.UUID | None = None
) -> None:
    """End all sessions of a user, but one that is kept."""
    await _end(connection, "user_id = %s AND session_id IS DISTINCT FROM %s", (user_id, kept))


async def list_revocations(
    connection: Connection, age: dt.timedelta, after: Revocation | None, limit: int
) -> list[Revocation]:
    """List at most `limit` sessions that were ended up to `age` ago, oldest first.

    A transaction that is running may still add some that precede those that are listed.
    """
    query: LiteralString = """
        SELECT session_id, revoke_time FROM sessions
         WHERE revoke_time > now() - %(age)s
           AND (%(time)s::timestamptz IS NULL
                OR (revoke_time, session_id) > (%(time)s, %(session_id)s))
         ORDER BY revoke_time, session_id LIMIT %(limit)s
    """
    parameters = {
        "age": age,
        "time": None if after is None else after.revoke_time,
        "session_id": None if after is None else after.session_id,
        "limit": limit,
    }
    return await fetch(connection, Revocation, query, parameters)


async def delete_ended(database: Database, retention: dt.timedelta) -> None:
    """Delete the sessions that ended `retention` ago."""
    ended: LiteralString = (
        "expire_time < now() - %(retention)s OR revoke_time < now() - %(retention)s"
    )
    await sweeping.sweep(database, "sessions", ended, {"retention": retention})


async def _end(
    connection: Connection, condition: LiteralString, parameters: Sequence[object]
) -> list[uuid.UUID]:
    """End the sessions that meet a condition and have not ended; return and announce them."""
    # Notifications of one transaction are one. They are sent when it commits.
    query: LiteralString = f"""
        WITH ended AS (
            UPDATE sessions SET revoke_time = now()
             WHERE {condition} AND revoke_time IS NULL AND expire_time > now()
            RETURNING session_id
        )
        SELECT session_id, pg_notify('{CHANNEL}', '') FROM ended
    """
    cursor = await connection.execute(query, parameters)
    return [row[0] for row in await cursor.fetchall()]


def _to_session(
    session_id: uuid.UUID, user_id: uuid.UUID, role: str, expire_time: dt.datetime
) -> Session:
    return Session(session_id, user_id, Role(role), expire_time)
