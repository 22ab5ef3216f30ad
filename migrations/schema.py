"""The schema of each database: brought up to date, taken back and asked about, through Alembic.

Which databases there are stands in alembic.ini. Where they are is for the caller to know.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from psycopg import conninfo, sql

DATABASES = ("user", "product", "order", "payment", "gateway")
"""The databases by their short names, which are the sections of alembic.ini."""

HEAD = "head"
BASE = "base"

# The database that every server has.
_MAINTENANCE_DATABASE = "postgres"
# Any number will do as long as nothing else in these databases locks it.
_LOCK_KEY = 0x62617A616172
_LOCK_TIMEOUT_SECONDS = 60
_CONNECT_TIMEOUT_SECONDS = 10


class SchemaError(Exception):
    """A schema could not be read or changed; the message names the database and says why."""


def upgrade(database: str, url: str, revision: str = HEAD) -> None:
    """Bring a database up to a revision; create it if the server does not have it.

    Two runs at once are safe: the second waits up to a minute for the first. A revision that fails
    leaves no trace, and those before it stand.

    Raises:
        SchemaError: The server cannot be reached, the revision failed, or another run took too
        long.
    """
    with _errors_of(database):
        _create_if_missing(url)
        with _locked_connection(url) as connection:
            command.upgrade(_configure(database, connection), revision)


def downgrade(database: str, url: str, revision: str) -> None:
    """Take a database back to a revision; `BASE` leaves it empty.

    Raises:
        SchemaError: As for `upgrade`.
    """
    with _errors_of(database), _locked_connection(url) as connection:
        command.downgrade(_configure(database, connection), revision)


def read_revision(database: str, url: str) -> str | None:
    """Return the revision that a database is at, None before the first.

    Raises:
        SchemaError: The database cannot be reached.
    """
    with _errors_of(database), _connect(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def list_revisions(database: str) -> list[Script]:
    """Return the revisions that are written for a database, oldest first.

    Raises:
        SchemaError: They do not form one line.
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
    except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError, CommandError) as error:
        raise SchemaError(f"{database}: {error}") from error


@contextlib.contextmanager
def _connect(url: str) -> Iterator[sqlalchemy.Connection]:
    # The URL is libpq's, which SQLAlchemy's parser does not know in full: so psycopg reads it.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_SECONDS),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.connect() as connection:
        yield connection


@contextlib.contextmanager
def _locked_connection(url: str) -> Iterator[sqlalchemy.Connection]:
    """Connect and hold the lock of migrations until the connection is closed."""
    with _connect(url) as connection:
        # It also bounds how long a revision may wait for, and so block, a table in use.
        connection.execute(
            sqlalchemy.text(
                "SELECT set_config('lock_timeout', :timeout, false), pg_advisory_lock(:key)"
            ),
            {"timeout": f"{_LOCK_TIMEOUT_SECONDS}s", "key": _LOCK_KEY},
        )
        connection.commit()
        yield connection


def _create_if_missing(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError:
        # libpq does not say in which way it failed, so the server is asked whether it was this.
        name = str(conninfo.conninfo_to_dict(url)["dbname"])
        maintenance = conninfo.make_conninfo(
            url, dbname=_MAINTENANCE_DATABASE, connect_timeout=_CONNECT_TIMEOUT_SECONDS
        )
        with psycopg.connect(maintenance, autocommit=True) as connection:
            query = "SELECT FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).rowcount:
                return  # It was something else, or another run has just created it.
            create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            # Another run may have been faster.
            with contextlib.suppress(
                psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation
            ):
                connection.execute(create)
