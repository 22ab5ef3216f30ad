"""Snapshots of several databases as of one moment, on whichever servers they are.

An order crosses databases, and no sequence of their snapshots would do: with an older snapshot of
orders, there are payments without orders, and with a newer one, confirmed orders without payments.
So all tables are locked for a moment, and the snapshots are exported while nobody writes. They are
what a crash of all servers at once would leave, from which the order service recovers.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

ATTEMPTS = 20
"""How many times locking the tables is attempted, if some of them are in use."""
_PAUSE_SECONDS = (0.5, 1.5)
_CONNECT_SECONDS = 10
# Each wait ends before deadlock_timeout does for whoever waits for it in turn: no transaction of a
# service is chosen to end a deadlock.
_TIMEOUT: LiteralString = "SET LOCAL statement_timeout = '400ms'"
# A dump takes long, and the snapshots of those after it wait for it.
_NO_TIMEOUTS: LiteralString = (
    "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL transaction_timeout = 0"
)
# An autovacuum ends after deadlock_timeout when it is waited for. Superusers may change that, and
# who was granted it.
_VACUUM_TIMEOUT: LiteralString = """
SELECT set_config('deadlock_timeout', '100ms', true)
WHERE has_parameter_privilege('deadlock_timeout', 'SET')
"""
_TABLES: LiteralString = (
    "SELECT schemaname, tablename FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
)

BUSY = (psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)
"""What is raised for tables that are in use."""


class SnapshotError(Exception):
    """No snapshot could be made; the message says of which database, and why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that other sessions of the same database can use while it is open."""

    name: str
    """The id that pg_export_snapshot returned."""
    revision: str
    """The revision that the schema is at."""


@contextmanager
def open_snapshots(urls: Mapping[str, str]) -> Iterator[Mapping[str, Snapshot]]:
    """Open snapshots of all databases as of one moment, for as long as the block lasts.

    Writers wait while the tables are locked, which takes less than half a second per database, and
    then go on. Within the block, no migration can change a table.

    Raises:
        SnapshotError: a database has no schema, or a table was in use in all attempts.
        psycopg.Error: a database cannot be reached or read.
    """
    with ExitStack() as stack:
        readers = _connect_all(stack, urls)
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                with stop_writers(urls):
                    snapshots = {name: _export(name, reader) for name, reader in readers.items()}
                break
            except BUSY as error:
                if not attempts_left:
                    message = f"a table was in use, such as by a VACUUM, in all {ATTEMPTS} attempts"
                    raise SnapshotError(message) from error
            time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 - no secret
        yield snapshots


@contextmanager
def stop_writers(urls: Mapping[str, str]) -> Iterator[None]:
    """Have all who would write to the databases wait within the block.

    What others have written before is committed or rolled back when it begins.

    Raises:
        BUSY: a table was in use for too long. Nobody waits any more.
    """
    with ExitStack() as stack:
        for connection in _connect_all(stack, urls).values():
            connection.execute(_TIMEOUT)
            connection.execute(_VACUUM_TIMEOUT)
            _lock(connection, "SHARE")
        yield


def _connect_all(stack: ExitStack, urls: Mapping[str, str]) -> dict[str, Connection]:
    """Open connections that are rolled back and closed with the stack."""
    connections = {}
    for name, url in urls.items():
        connection = psycopg.connect(url, connect_timeout=_CONNECT_SECONDS)
        stack.callback(connection.close)
        connections[name] = connection
    return connections


def _lock(connection: Connection, mode: LiteralString) -> None:
    tables = [sql.Identifier(*row) for row in connection.execute(_TABLES)]
    if tables:
        lock = sql.SQL("LOCK TABLE {} IN {} MODE")
        connection.execute(lock.format(sql.SQL(", ").join(tables), sql.SQL(mode)))


def _export(database: str, connection: Connection) -> Snapshot:
    """Export the snapshot of a new transaction, in which migrations cannot change the tables."""
    connection.rollback()
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(_NO_TIMEOUTS)
    connection.execute(_TIMEOUT)
    _lock(connection, "ACCESS SHARE")
    query = "SELECT pg_export_snapshot(), to_regclass('alembic_version') IS NOT NULL"
    name, has_schema = connection.execute(query).fetchone() or ("", False)
    row = has_schema and connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if not row:
        raise SnapshotError(f"{database}: it has no schema: run the migrations first")
    return Snapshot(name, row[0])
