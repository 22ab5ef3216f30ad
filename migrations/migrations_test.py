"""Every revision of every database, up and down on a real server, and the frame around them."""

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

# What a schema consists of, besides extensions, with its definition where it has one.
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
    # Alembic's own table stays when a schema is taken back.
    return [row for row in rows if "alembic_version" not in f"{row[1]} {row[2]}"]


@pytest.mark.parametrize("database", schema.DATABASES)
def test_each_revision_goes_up_down_and_up_again(databases: Databases, database: str) -> None:
    url = databases.create_empty()
    before = _read_catalogue(url)
    revisions = [script.revision for script in schema.list_revisions(database)]
    assert revisions, "a database without a revision is not one of the shop's"
    catalogues = [before]
    for revision in revisions:
        schema.upgrade(database, url, revision)
        assert schema.read_revision(database, url) == revision
        catalogues.append(_read_catalogue(url))
    for steps_down, catalogue in enumerate(reversed(catalogues[:-1]), start=1):
        target = [schema.BASE, *revisions][-1 - steps_down]
        schema.downgrade(database, url, target)
        assert _read_catalogue(url) == catalogue, f"going down to {target} left or took too much"
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
        assert seen[-1] != seen[-2], f"the catalogue query does not see what {script.path} does"
    databases.drop(url)


def test_every_folder_of_revisions_is_a_database() -> None:
    folders = {path.parent.parent.name for path in Path(__file__).parent.glob("*/versions/*.py")}
    assert folders == set(schema.DATABASES)


def _url_of_missing(databases: Databases) -> str:
    url = databases.create_empty()
    databases.drop(url)
    return url


def test_upgrade_creates_the_database(databases: Databases) -> None:
    url = _url_of_missing(databases)
    schema.upgrade("user", url)
    assert schema.read_revision("user", url) == schema.list_revisions("user")[-1].revision
    databases.drop(url)


_UPGRADE = "import sys; from migrations import schema; schema.upgrade('user', sys.argv[1])"
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def _start_run(url: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", _UPGRADE, url], env=environment)


def test_a_run_waits_for_another_one(databases: Databases) -> None:
    url = databases.create_empty()
    with schema._locked_connection(url):
        run = _start_run(url)
        with psycopg.connect(databases.maintenance_url, autocommit=True) as observer:
            while observer.execute(_WAITING).fetchone() != (1,):
                assert run.poll() is None, "it did not wait"
        assert schema.read_revision("user", url) is None
    assert run.wait() == 0
    assert schema.read_revision("user", url) == schema.list_revisions("user")[-1].revision
    databases.drop(url)


def test_runs_at_once_may_both_find_the_database_missing(databases: Databases) -> None:
    url = _url_of_missing(databases)
    runs = [_start_run(url) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    databases.drop(url)


def test_a_server_that_is_not_there_is_said(databases: Databases) -> None:
    url = conninfo.make_conninfo(databases.maintenance_url, port=1, dbname="userdb")
    with pytest.raises(schema.SchemaError, match="user: connection failed"):
        schema.upgrade("user", url)


def test_an_unknown_revision_is_said(databases: Databases) -> None:
    url = databases.create_empty()
    with pytest.raises(schema.SchemaError, match=r"user: .*nonsense"):
        schema.upgrade("user", url, "nonsense")
    databases.drop(url)
