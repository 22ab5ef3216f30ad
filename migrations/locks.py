"""Short waits for locks, and what to do when they were too short.

A statement that changes a table waits for everybody who uses the table, and whoever comes later
waits behind it, even to read. So a change waits for a moment only, lets the others pass, and is
tried again.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, LiteralString

import psycopg
import sqlalchemy

LOCK_TIMEOUT_SECONDS = 3
"""How long a statement waits for a lock, and others behind it."""
ATTEMPTS = 10
"""How often a change is attempted: in all, for less than the minute that another run waits."""
PAUSE_SECONDS = (1.0, 2.0)
"""How long others are let pass between two attempts, at least and at most."""
SET_TIMEOUT: LiteralString = f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"

_OBSERVE_SECONDS = 0.5
_CONNECT_TIMEOUT_SECONDS = 10
# A role sees the process ids of all sessions, and what else there is of those that are its own.
_HOLDERS: LiteralString = """
SELECT coalesce(relation::regclass::text, locktype),
    holder, coalesce(usename, '?'), coalesce(state, '?'),
    coalesce(extract(epoch FROM clock_timestamp() - xact_start)::int, 0)
FROM pg_locks CROSS JOIN unnest(pg_blocking_pids(pg_locks.pid)) AS holder
    LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = holder
WHERE pg_locks.pid = %s AND NOT granted
ORDER BY xact_start
"""


class LockedError(Exception):
    """No attempt obtained a lock; the message has the table and who held the lock."""


def retry(url: str, connection: "psycopg.Connection[Any]", change: Callable[[], None]) -> None:
    """Run a change; after a lock timeout or a deadlock, run it again, `ATTEMPTS` times in all.

    The change is run on the connection, rolls back what it fails to finish, and begins after what
    it has committed. The URL is that of the connection, for a second one that observes it.

    Raises:
        LockedError: no attempt succeeded.
    """
    with _observe(url, connection.info.backend_pid) as holders:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                change()
            except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
                if not _is_about_locks(error):
                    raise
                if not attempts_left:
                    raise LockedError(_describe(holders)) from error
            else:
                return
            time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311 - no secret


def _is_about_locks(error: Exception) -> bool:
    # SQLAlchemy wraps the errors of what Alembic executes itself.
    cause = getattr(error, "orig", error)
    return isinstance(cause, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected)


def _describe(holders: list[str]) -> str:
    return (
        f"a lock could not be taken within {LOCK_TIMEOUT_SECONDS} s (attempts: {ATTEMPTS}):"
        f" {'; '.join(holders) or 'it is unknown who held it'}. The revision was rolled back: try"
        " it again later, or end what holds the lock with pg_terminate_backend"
    )


@contextlib.contextmanager
def _observe(url: str, process_id: int) -> Iterator[list[str]]:
    """Yield a list of whom the process waited for last, which a thread keeps up to date.

    Once a statement has been cancelled, nobody can tell any more what it waited for.
    """
    holders: list[str] = []
    done = threading.Event()
    arguments = (url, process_id, holders, done)
    thread = threading.Thread(target=_watch, args=arguments, name="locks")
    thread.start()
    try:
        yield holders
    finally:
        done.set()
        thread.join()


def _watch(url: str, process_id: int, holders: list[str], done: threading.Event) -> None:
    if done.wait(_OBSERVE_SECONDS):
        return
    # Without this connection, the change is run all the same: only a message has less to say.
    with (
        contextlib.suppress(psycopg.Error),
        psycopg.connect(
            url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_SECONDS
        ) as connection,
    ):
        connection.execute("SET statement_timeout = '1s'")
        while not done.wait(_OBSERVE_SECONDS):
            rows = connection.execute(_HOLDERS, [process_id]).fetchall()
            if rows:
                holders[:] = [
                    f"{table} is in use by process {holder} of {role} ({state}), whose"
                    f" transaction began {seconds} s ago"
                    for table, holder, role, state, seconds in rows
                ]
