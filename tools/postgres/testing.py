"""Pytest fixtures: real, migrated databases for tests, a few milliseconds each.

A test module loads the plugin and names its schema:

    pytest_plugins = ("tools.postgres.testing",)
    DATABASE = "product"

One server serves a test process. Each schema is migrated once, by its real revisions, into a
template that is then copied. TEST_POSTGRES_URL points at a server to use instead of a new one; its
user must be a superuser.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import conninfo, sql

from migrations import schema
from migrations.roles import Roles
from tools.postgres.throwaway import run_throwaway_server

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
    _templates: dict[str, str] = field(default_factory=dict)

    def create(self, schema_name: str) -> str:
        """Make a fresh database with a migrated schema, and return its URL."""
        template = self._templates.get(schema_name)
        if template is None:
            template = f"{self.prefix}_{schema_name}"
            url = self._url(template)
            schema.upgrade(schema_name, url, app_url=_login(url, Roles.of(url).app))
            self._templates[schema_name] = template
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
            self.drop(self._url(self._templates.popitem()[1]))

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
    return _login(url, f"{template}_app")


def _login(url: str, role: str) -> str:
    """Return the URL for a role whose password is its name."""
    return conninfo.make_conninfo(url, user=role, password=role)


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
    existing = os.environ.get("TEST_POSTGRES_URL")
    if existing:
        maker = Databases(existing)
        yield maker
        maker.drop_templates()
        return
    with run_throwaway_server() as server:
        yield Databases(server.url("postgres"))
        for url in list(_connections):
            _disconnect(url)


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
