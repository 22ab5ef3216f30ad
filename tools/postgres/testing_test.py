"""The fixtures that all other database tests stand on."""

import psycopg
import pytest
from psycopg import conninfo

from tools.postgres import testing
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"


def _name(url: str) -> str:
    return str(conninfo.conninfo_to_dict(url)["dbname"])


def _scalar(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def test_the_database_is_migrated(database_url: str) -> None:
    assert _scalar(database_url, "SELECT count(*) FROM alembic_version") == 1


def test_copies_do_not_see_one_another(databases: Databases) -> None:
    first, second = databases.create("user"), databases.create("user")
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE mine ()")
    assert _scalar(second, "SELECT to_regclass('mine')") is None
    databases.drop(first)
    databases.drop(second)


def test_drop_does_not_wait_for_clients(databases: Databases) -> None:
    url = databases.create_empty()
    with psycopg.connect(url) as connection:
        databases.drop(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_clear_empties_tables_against_keys_and_triggers(databases: Databases) -> None:
    url = databases.create_empty()
    with psycopg.connect(url) as connection:
        connection.execute(
            b"""
            CREATE TABLE alembic_version (version_num text);
            INSERT INTO alembic_version VALUES ('1');
            CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
            CREATE TABLE child (id int REFERENCES parent); INSERT INTO child VALUES (1);
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'append only'; END $$;
            CREATE TRIGGER refuse BEFORE DELETE ON parent FOR EACH ROW EXECUTE FUNCTION refuse();
            """
        )
    testing.clear(url)
    counts = "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)"
    assert _scalar(url, counts) == 0
    assert _scalar(url, "SELECT count(*) FROM alembic_version") == 1
    databases.drop(url)


def test_an_existing_server_is_left_as_it_was(databases: Databases) -> None:
    other = Databases(databases.maintenance_url)
    created = _name(other.create("user"))
    other.drop(other.maintenance_url.replace("/postgres", f"/{created}"))
    other.drop_templates()
    for names, column in (("pg_database", "datname"), ("pg_roles", "rolname")):
        query = f"SELECT count(*) FROM {names} WHERE {column} LIKE '{other.prefix}%'"
        assert _scalar(databases.maintenance_url, query) == 0
