"""Pytest fixtures: real, migrated databases for tests, a few milliseconds each.

A test module loads the plugin and names its schema:

    pytest_plugins = ("tools.postgres.testing",)
    DATABASE = "product"

One server serves a test process. It starts from the data directory that migrated.py made, with a
database of each schema, migrated by its real revisions, which is then copied. With
`--config=testcontainers` it is a container of the image of PostgreSQL. TEST_POSTGRES_URL points at
a server to use instead of a new one. On both, schemas are migrated when they are needed; the user
must be a superuser.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from migrations.roles import LEDGERS, Roles
from tools.postgres.templates import MIGRATED, app_login, login, template_name
from tools.postgres.throwaway import run_throwaway_server

_ARCHIVE = Path(__file__).with_name("migrated.tar")
_IMAGE = Path(__file__).with_name("image_archive") / "tarball.tar"
"""It is there with `--config=testcontainers`."""

_CLEAR = """
    DO $$
    DECLARE
        name text;
    BEGIN
        -- As a replica no trigger fires: foreign keys and append-only ledgers do not object.
        SET LOCAL session_replication_role = replica;
        FOR name IN
            SELECT format('%I.%I', schemaname, tablename)
              FROM pg_tables
             WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
               AND tablename <> 'alembic_version'
        LOOP
            EXECUTE 'DELETE FROM ' || name;
        END LOOP;
    END
    $$
"""
_connections: dict[str, psycopg.Connection] = {}
"""Those of `connect`, by URL."""


@dataclass(frozen=True)
class Databases:
    """Makes databases on a test server, all of a prefix of their own, and drops them."""

    maintenance_url: str
    prefix: str = field(default_factory=lambda: f"test_{uuid.uuid4().hex[:8]}")
    _templates: list[str] = field(default_factory=list)
    """The names of the databases to copy that are there."""

    def create(self, schema_name: str) -> str:
        """Make a fresh database with a migrated schema, and return its URL."""
        template = template_name(self.prefix, schema_name)
        if template not in self._templates:
            self._migrate(schema_name, self._url(template))
            self._templates.append(template)
        owner = sql.Identifier(Roles.of(self._url(template)).owner)
        return self._copy(f"{template}_{uuid.uuid4().hex[:12]}", template, owner)

    def create_empty(self) -> str:
        """Make a database with nothing in it, and return its URL."""
        name = f"{self.prefix}_{uuid.uuid4().hex[:12]}"
        return self._copy(name, "template0", sql.SQL("DEFAULT"))

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it, and the roles that are named after it."""
        _disconnect(url)
        name = str(conninfo.conninfo_to_dict(url)["dbname"])
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        roles = Roles.of(url)
        for role in (roles.owner, roles.app):
            self._execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))

    def drop_templates(self) -> None:
        """Drop what `create` copies from."""
        while self._templates:
            self.drop(self._url(self._templates.pop()))

    def _migrate(self, schema_name: str, url: str) -> None:
        from migrations import schema  # noqa: PLC0415 - most tests spare themselves SQLAlchemy.

        schema.upgrade(schema_name, url, app_url=app_login(url))

    def _copy(self, name: str, template: str, owner: sql.Composable) -> str:
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), owner, sql.Identifier(template)
            )
        )
        return self._url(name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.maintenance_url, autocommit=True) as connection:
            connection.execute(statement)

    def _url(self, name: str) -> str:
        base, _, query = self.maintenance_url.partition("?")
        return base.rpartition("/")[0] + f"/{name}" + (f"?{query}" if query else "")


def app_url(url: str) -> str:
    """Return the URL with which a service opens a database that `Databases.create` made.

    Its role is that of the template. Tests look behind the service as the administrator.
    """
    template = str(conninfo.conninfo_to_dict(url)["dbname"]).rpartition("_")[0]
    return login(url, f"{template}_app")


def connect(url: str) -> psycopg.Connection:
    """Return a connection in autocommit mode that stays open, for all calls with the same URL.

    A new one costs as much as a dozen queries. One that the server has closed is replaced.
    """
    if url in _connections:
        with contextlib.suppress(psycopg.OperationalError):
            _connections[url].execute("")
            return _connections[url]
        _disconnect(url)
    _connections[url] = psycopg.connect(url, autocommit=True)
    return _connections[url]


def _disconnect(url: str) -> None:
    if url in _connections:
        _connections.pop(url).close()


def clear(url: str) -> None:
    """Delete every row of a database, but not which revision it is at."""
    connect(url).execute(_CLEAR)


def read_choices(url: str, table: str, column: str) -> set[str]:
    """Return the texts that the CHECK constraint of a column lets it have, to compare with a model.

    Raises:
        AssertionError: No constraint of that column alone lists any.
    """
    query = """
        SELECT (regexp_matches(definition, '''([^'']*)''::text', 'g'))[1]
          FROM pg_constraint
          JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]
          CROSS JOIN pg_get_constraintdef(pg_constraint.oid) AS definition
         WHERE conrelid = %s::regclass AND attname = %s AND definition LIKE '%%= ANY (ARRAY[%%'
    """
    with psycopg.connect(url) as connection:
        choices = {row[0] for row in connection.execute(query, (table, column))}
    if not choices:
        raise AssertionError(f"no constraint lists what {table}.{column} may be")
    return choices


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Yield the maker of databases; use it where `database_url` is not enough."""
    with _open_databases() as maker:
        yield maker
        for url in list(_connections):
            _disconnect(url)


@contextlib.contextmanager
def _open_databases() -> Iterator[Databases]:
    if existing := os.environ.get("TEST_POSTGRES_URL"):
        maker = Databases(existing)
        yield maker
        maker.drop_templates()
    elif _IMAGE.exists():
        from tools.postgres.container import run_container  # noqa: PLC0415 - by default there is none.

        with run_container(_IMAGE) as url:
            yield Databases(url)
    else:
        with run_throwaway_server(_ARCHIVE) as server:
            templates = [template_name(MIGRATED, name) for name in LEDGERS]
            yield Databases(server.url("postgres"), MIGRATED, templates)


@pytest.fixture(scope="module")
def database_url(databases: Databases, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a migrated database that the tests of the module share."""
    url = databases.create(request.module.DATABASE)
    yield url
    databases.drop(url)


@pytest.fixture
def clean_database_url(database_url: str) -> Iterator[str]:
    """Yield the module's database, and delete all rows of it after the test."""
    yield database_url
    clear(database_url)
