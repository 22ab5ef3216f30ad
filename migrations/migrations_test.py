"""Upgrades and downgrades of every database, on a real server."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from migrations import schema
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

# The objects of a schema, with their definitions, and the extensions.
_CATALOGUE = """
SELECT 'relation', c.oid::regclass::text, c.relkind::text,
       (SELECT string_agg(format('%s %s %s %s', attname, format_type(atttypid, atttypmod),
                                 attnotnull, pg_get_expr(adbin, adrelid)), ', ' ORDER BY attname)
          FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
  FROM pg_class c WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indexrelid::regclass::text, '', pg_get_indexdef(indexrelid)
  FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
 WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', conname, conrelid::regclass::text, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'function', oid::regprocedure::text, '', pg_get_functiondef(oid)
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'trigger', tgname, tgrelid::regclass::text, pg_get_triggerdef(pg_trigger.oid)
  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
 WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal
UNION ALL
SELECT 'type', typname, typtype::text,
       (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum
         WHERE enumtypid = pg_type.oid)
  FROM pg_type WHERE typnamespace = 'public'::regnamespace
UNION ALL
SELECT 'schema', nspname, '', '' FROM pg_namespace
 WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
UNION ALL
SELECT 'extension', extname, extversion, '' FROM pg_extension
ORDER BY 1, 2, 3, 4
"""


def _read_catalogue(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(_CATALOGUE).fetchall()
    # A downgrade leaves the table of Alembic.
    return [row for row in rows if "alembic_version" not in f"{row[1]} {row[2]}"]


@pytest.mark.parametrize("database", schema.DATABASES)
def test_each_revision_can_be_downgraded_and_upgraded_again(
    databases: Databases, database: str
) -> None:
    url = databases.create_empty()
    before = _read_catalogue(url)
    revisions = [script.revision for script in schema.list_revisions(database)]
    assert revisions, "every database has a revision"
    catalogues = [before]
    for revision in revisions:
        schema.upgrade(database, url, revision)
        assert schema.read_revision(database, url) == revision
        catalogues.append(_read_catalogue(url))
    for steps_down, catalogue in enumerate(reversed(catalogues[:-1]), start=1):
        target = [schema.BASE, *revisions][-1 - steps_down]
        schema.downgrade(database, url, target)
        assert _read_catalogue(url) == catalogue, (
            f"the downgrade to {target} left or removed too much"
        )
    schema.upgrade(database, url)
    assert _read_catalogue(url) == catalogues[-1]
    databases.drop(url)


@pytest.mark.parametrize("database", schema.DATABASES)
def test_each_revision_changes_something(databases: Databases, database: str) -> None:
    url = databases.create_empty()
    seen = [_read_catalogue(url)]
    for script in schema.list_revisions(database):
        schema.upgrade(database, url, script.revision)
        seen.append(_read_catalogue(url))
        assert seen[-1] != seen[-2], (
            f"the query of the catalogue does not include the changes of {script.path}"
        )
    databases.drop(url)


def test_every_folder_of_revisions_is_a_database() -> None:
    folders = {path.parent.parent.name for path in Path(__file__).parent.glob("*/versions/*.py")}
    assert folders == set(schema.DATABASES)


def _make_missing_url(databases: Databases) -> str:
    url = databases.create_empty()
    databases.drop(url)
    return url


def test_upgrade_creates_the_database(databases: Databases) -> None:
    url = _make_missing_url(databases)
    schema.upgrade("user", url)
    assert schema.read_revision("user", url) == schema.list_revisions("user")[-1].revision
    databases.drop(url)


_UPGRADE = "import sys; from migrations import schema; schema.upgrade('user', sys.argv[1])"
_ASKING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = %s AND query LIKE '%%pg_try_advisory_lock%%'
"""


def _start_run(url: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", _UPGRADE, url], env=environment)


def test_an_upgrade_waits_for_a_concurrent_one(databases: Databases) -> None:
    url = databases.create_empty()
    name = conninfo.conninfo_to_dict(url)["dbname"]
    with schema._locked_connection(url):
        run = _start_run(url)
        with psycopg.connect(databases.maintenance_url, autocommit=True) as observer:
            while observer.execute(_ASKING, [name]).fetchone() != (1,):
                assert run.poll() is None, "it did not wait"
        assert schema.read_revision("user", url) is None
    assert run.wait() == 0
    assert schema.read_revision("user", url) == schema.list_revisions("user")[-1].revision
    databases.drop(url)


def test_upgrade_raises_if_a_concurrent_one_takes_too_long(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.create_empty()
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT_SECONDS", 0)
    with schema._locked_connection(url):
        with pytest.raises(schema.SchemaError, match="user: another run has taken more than 0 s"):
            schema.upgrade("user", url)
        assert schema.read_revision("user", url) is None
    databases.drop(url)


def test_concurrent_upgrades_create_a_missing_database_once(databases: Databases) -> None:
    url = _make_missing_url(databases)
    runs = [_start_run(url) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    databases.drop(url)


def test_upgrade_raises_if_the_server_cannot_be_reached(databases: Databases) -> None:
    url = conninfo.make_conninfo(databases.maintenance_url, port=1, dbname="userdb")
    with pytest.raises(schema.SchemaError, match="user: connection failed"):
        schema.upgrade("user", url)


def test_upgrade_raises_for_an_unknown_revision(databases: Databases) -> None:
    url = databases.create_empty()
    with pytest.raises(schema.SchemaError, match=r"user: .*nonsense"):
        schema.upgrade("user", url, "nonsense")
    databases.drop(url)
