"""How watchers learn of sessions that were ended, on a real database."""

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from services.user import revocation_log
from services.user.revocation_log import WINDOW, RevocationLog
from services.user.session_repository import Revocation, end_sessions_of_user

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
Watch = AsyncGenerator[Sequence[Revocation], None]


@asynccontextmanager
async def following(database: Database) -> AsyncIterator[RevocationLog]:
    """Run the task that follows, as a process does."""
    log = RevocationLog(database, asyncio.Event())
    task = log.task()
    task.start()
    try:
        yield log
    finally:
        await task.stop()


def add_session(url: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Add a user with a session, and return both ids."""
    user_id, session_id = uuid.uuid4(), uuid.uuid4()
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO users (user_id, email, display_name, password_hash)"
            " VALUES (%s, %s, 'Ada', '$argon2id$')",
            (user_id, f"{user_id}@example.com"),
        )
        connection.execute(
            "INSERT INTO sessions (session_id, user_id, expire_time)"
            " VALUES (%s, %s, now() + interval '1 day')",
            (session_id, user_id),
        )
    return user_id, session_id


async def end(database: Database, user_id: uuid.UUID) -> None:
    async with database.connection() as connection:
        await end_sessions_of_user(connection, user_id)


async def wait_for(watched: Watch, session_id: uuid.UUID) -> None:
    """Return when a watcher is told of a session.

    Raises:
        TimeoutError: it is not, within 10 s.
    """
    async with asyncio.timeout(10):
        async for revocations in watched:
            if session_id in {each.session_id for each in revocations}:
                return


async def test_the_first_response_comes_at_once_and_may_be_empty(database: Database) -> None:
    async with following(database) as log, aclosing(log.watch()) as watched:
        assert await anext(watched) == []


async def test_a_watcher_is_told_of_what_ended_before_and_of_what_ends(
    database: Database, clean_database_url: str
) -> None:
    (first_user, first), (second_user, second) = (add_session(clean_database_url) for _ in "12")
    await end(database, first_user)
    async with following(database) as log, aclosing(log.watch()) as watched:
        assert [each.session_id for each in await anext(watched)] == [first]
        await end(database, second_user)
        await wait_for(watched, second)


async def test_watchers_of_all_processes_are_told(
    database: Database, clean_database_url: str
) -> None:
    user_id, session_id = add_session(clean_database_url)
    async with (
        following(database) as one,
        following(database) as other,
        aclosing(one.watch()) as first,
        aclosing(one.watch()) as second,
        aclosing(other.watch()) as third,
    ):
        for watched in (first, second, third):
            assert await anext(watched) == []
        await end(database, user_id)
        for watched in (first, second, third):
            await wait_for(watched, session_id)


async def test_a_session_whose_tokens_have_expired_is_not_listed(
    database: Database, clean_database_url: str
) -> None:
    user_id, _ = add_session(clean_database_url)
    await end(database, user_id)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE sessions SET revoke_time = revoke_time - %s", [WINDOW])
    async with following(database) as log, aclosing(log.watch()) as watched:
        assert await anext(watched) == []


async def test_a_session_that_a_longer_transaction_ends_is_not_missed(
    database: Database, clean_database_url: str
) -> None:
    _, slow = add_session(clean_database_url)
    fast_user, fast = add_session(clean_database_url)
    log = RevocationLog(database, asyncio.Event())
    async with aclosing(log.watch()) as watched:
        await anext(watched)
        async with database.transaction() as connection:
            # As of a transaction that began half a minute ago.
            await connection.execute(
                "UPDATE sessions SET revoke_time = now() - interval '30 seconds'"
                " WHERE session_id = %s",
                [slow],
            )
            await end(database, fast_user)
            await log._read_new()
            await wait_for(watched, fast)
        await log._read_new()
        await wait_for(watched, slow)


async def test_what_ends_while_the_connection_is_lost_is_not_missed(
    database: Database, clean_database_url: str
) -> None:
    _, session_id = add_session(clean_database_url)
    log = RevocationLog(database, asyncio.Event())
    async with aclosing(log.watch()) as watched:
        await anext(watched)
        await log._read_new()
        # As if nothing had been read for two minutes, within which the session ended.
        assert log._read_at is not None
        log._read_at -= 120
        with psycopg.connect(clean_database_url) as connection:
            connection.execute("UPDATE sessions SET revoke_time = now() - interval '100 seconds'")
        await log._read_new()
        await wait_for(watched, session_id)


async def test_all_pages_of_what_ended_are_yielded(
    database: Database, clean_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_log, "MAX_REVOCATIONS", 3)
    users = [add_session(clean_database_url) for _ in range(8)]
    # One transaction: all have the same time.
    async with database.transaction() as connection:
        for user_id, _ in users:
            await end_sessions_of_user(connection, user_id)
    async with following(database) as log, aclosing(log.watch()) as watched:
        pages = [await anext(watched) for _ in range(3)]
    found = {each.session_id for page in pages for each in page}
    assert found == {session_id for _, session_id in users}


async def test_a_watcher_that_does_not_read_is_told_to_start_again(
    database: Database, clean_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_log, "MAX_QUEUED", 1)
    async with following(database) as log, aclosing(log.watch()) as watched:
        await anext(watched)
        async with aclosing(log.watch()) as reader:
            await anext(reader)
            for _ in range(3):
                user_id, session_id = add_session(clean_database_url)
                await end(database, user_id)
                await wait_for(reader, session_id)
        with pytest.raises(errors.Unavailable):
            await wait_for(watched, uuid.UUID(int=0))


async def test_watching_ends_when_the_server_stops(database: Database) -> None:
    draining = asyncio.Event()
    log = RevocationLog(database, draining)
    async with aclosing(log.watch()) as watched:
        await anext(watched)
        draining.set()
        with pytest.raises(errors.Unavailable):
            await wait_for(watched, uuid.UUID(int=0))


def test_the_window_is_longer_than_tokens_last() -> None:
    assert dt.timedelta(minutes=10) < WINDOW
