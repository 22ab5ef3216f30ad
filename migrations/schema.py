"""The schemas of the databases: upgrade, downgrade and inspection, with Alembic.

The databases are configured in alembic.ini; callers provide their URLs.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from psycopg import conninfo, sql

from migrations import locks
from migrations.roles import (
    LEDGERS,
    RoleError,
    Roles,
    create,
    grant,
    revoke_large_objects,
    take_over,
)

DATABASES = ("user", "product", "order", "payment", "gateway")
"""The databases by their short names, which are the sections of alembic.ini."""

HEAD = "head"
BASE = "base"

# A database that every server has.
_MAINTENANCE_DATABASE = "postgres"
# An arbitrary key, which nothing else in these databases locks.
_LOCK_KEY = 0x62617A616172
_LOCK_TIMEOUT_SECONDS = 60
_LOCK: LiteralString = (
    f"SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT_SECONDS}s', false),"
    f" pg_advisory_lock({_LOCK_KEY})"
)
_TRY_LOCK: LiteralString = f"SELECT pg_try_advisory_lock({_LOCK_KEY})"
# A comment of the database itself, which is not in its backup.
_RESTORING: LiteralString = "It is being restored, or its restore was interrupted."
_COMMENT: LiteralString = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()
"""
_POLL_SECONDS = 0.1
# A statement of a run that was killed, such as an index that is being created, would keep the lock.
_END_WITH_CLIENT: LiteralString = "SET client_connection_check_interval = '1s'"
_CONNECT_TIMEOUT_SECONDS = 10

_FAILURES = (
    psycopg.Error,
    sqlalchemy.exc.SQLAlchemyError,
    CommandError,
    RoleError,
    locks.LockedError,
    TimeoutError,
)


class SchemaError(Exception):
    """A schema could not be read or changed; the message has the database and the cause."""


def upgrade(database: str, url: str, revision: str = HEAD, *, app_url: str | None = None) -> None:
    """Upgrade a database to a revision; create it and its roles if they do not exist.

    The URL is that of an administrator, `app_url` that of the service: its role is the app role,
    which by default is named after the database and has no password. See roles.py.

    Concurrent runs are safe: the second waits up to a minute for the first. A revision that fails
    is rolled back, and those before it remain. One that cannot lock a table soon is rolled back and
    tried again: see locks.py.

    Raises:
        SchemaError: the server cannot be reached, a revision failed, a table was locked in all
            attempts, another run took too long, or the app role may do too much.
    """
    with _errors_of(database):
        roles = Roles.of(url, app_url)
        _prepare_server(url, roles)
        _change(database, url, roles, lambda config: command.upgrade(config, revision))


def create_database(database: str, url: str, *, app_url: str | None = None) -> None:
    """Create a database and its roles if they do not exist, with nothing in it; see `upgrade`.

    Raises:
        SchemaError: the server cannot be reached, or the app role may do too much.
    """
    with _errors_of(database):
        _prepare_server(url, Roles.of(url, app_url))


def set_restoring(database: str, url: str, *, restoring: bool) -> None:
    """Have a database refused by `upgrade` and `downgrade` while a restore is incomplete, or not.

    Raises:
        SchemaError: the database cannot be reached.
    """
    name = sql.Identifier(str(conninfo.conninfo_to_dict(url)["dbname"]))
    comment = sql.Literal(_RESTORING if restoring else None)
    with (
        _errors_of(database),
        psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_SECONDS) as connection,
    ):
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, comment))


def downgrade(database: str, url: str, revision: str, *, app_url: str | None = None) -> None:
    """Downgrade a database, of which `upgrade` was run, to a revision; `BASE` leaves it empty.

    Raises:
        SchemaError: as for `upgrade`.
    """
    with _errors_of(database):
        roles = Roles.of(url, app_url)
        _change(database, url, roles, lambda config: command.downgrade(config, revision))


def read_revision(database: str, url: str) -> str | None:
    """Return the current revision of a database, None before the first.

    Raises:
        SchemaError: the database cannot be reached.
    """
    with _errors_of(database), _connect(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def list_revisions(database: str) -> list[Script]:
    """Return all revisions of a database, oldest first, without connecting to it.

    Raises:
        SchemaError: the revisions have branches.
    """
    with _errors_of(database):
        scripts = ScriptDirectory.from_config(_configure(database))
        return list(reversed(list(scripts.walk_revisions(BASE, HEAD))))


def _configure(database: str, connection: sqlalchemy.Connection | None = None) -> Config:
    path = Path(__file__).with_name("alembic.ini")
    attributes = {"connection": connection}
    return Config(str(path), ini_section=database, attributes=attributes)


@contextlib.contextmanager
def _errors_of(database: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise SchemaError(f"{database}: {error}") from error


@contextlib.contextmanager
def _connect(url: str) -> Iterator[sqlalchemy.Connection]:
    # The URL is one of libpq, whose syntax SQLAlchemy supports only in part: psycopg parses it.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_SECONDS),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.connect() as connection:
        yield connection


def _change(database: str, url: str, roles: Roles, run: Callable[[Config], None]) -> None:
    """Run a command of Alembic as the owner of a database, and grant what the app role needs then.

    It can be run again after a failure: it goes on after the last revision that was committed.
    """
    with _locked_connection(url) as connection:
        if connection.scalar(sqlalchemy.text(_COMMENT)) == _RESTORING:
            raise SchemaError(f"{database}: {_RESTORING} Drop it, and restore all databases again")
        connection.commit()
        raw = cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)
        locks.retry(url, raw, lambda: take_over(raw, roles))
        revoke_large_objects(raw)
        raw.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(roles.owner)))
        raw.commit()
        locks.retry(url, raw, lambda: run(_configure(database, connection)))
        connection.commit()
        locks.retry(url, raw, lambda: grant(raw, roles, LEDGERS[database]))


@contextlib.contextmanager
def _locked_connection(url: str) -> Iterator[sqlalchemy.Connection]:
    """Connect, with an advisory lock until the connection is closed.

    Raises:
        TimeoutError: another run holds the lock.
    """
    with _connect(url) as connection:
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        # It asks again and again, because CREATE INDEX CONCURRENTLY of the run that holds the lock
        # would wait for the end of a statement that waits here.
        while not connection.scalar(sqlalchemy.text(_TRY_LOCK)):
            connection.commit()
            if time.monotonic() > deadline:
                raise TimeoutError(f"another run has taken more than {_LOCK_TIMEOUT_SECONDS} s")
            time.sleep(_POLL_SECONDS)
        connection.execute(sqlalchemy.text(_END_WITH_CLIENT))
        connection.execute(sqlalchemy.text(locks.SET_TIMEOUT))
        connection.commit()
        yield connection


def _prepare_server(url: str, roles: Roles) -> None:
    """Create the roles and the database, under a lock of the whole server."""
    maintenance = conninfo.make_conninfo(
        url, dbname=_MAINTENANCE_DATABASE, connect_timeout=_CONNECT_TIMEOUT_SECONDS
    )
    name = str(conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(_LOCK)
        create(connection, roles)
        query = "SELECT FROM pg_database WHERE datname = %s"
        if not connection.execute(query, [name]).rowcount:
            statement = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(statement.format(*map(sql.Identifier, (name, roles.owner))))
