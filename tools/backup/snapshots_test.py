"""All snapshots are of one moment, at which nobody wrote to any of the databases."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tools.backup import snapshots
from tools.backup.snapshots import BUSY, SnapshotError, open_snapshots, stop_writers
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

_MOMENT_SECONDS = 5
_IS_WAITING = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass('notes'))
"""
_INSERT = "INSERT INTO notes VALUES ('written')"


@pytest.fixture
def urls(databases: Databases) -> Iterator[Mapping[str, str]]:
    """Yield the URLs of two databases with a table."""
    made = {name: databases.create_empty() for name in ("order", "payment")}
    for url in made.values():
        _execute(url, "CREATE TABLE notes (note text)")
        _execute(url, "CREATE TABLE alembic_version AS SELECT '0001' AS version_num")
    yield made
    for url in made.values():
        databases.drop(url)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET lock_timeout = '200ms'")
        connection.execute(statement)


def _count(url: str, snapshot: str) -> object:
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        return connection.execute("SELECT count(*) FROM notes").fetchone()


def _count_in_snapshot(urls: Mapping[str, str], database: str) -> object:
    with open_snapshots(urls) as opened:
        return _count(urls[database], opened[database].name)


def test_nobody_writes_to_any_database_while_writers_are_stopped(urls: Mapping[str, str]) -> None:
    with stop_writers(urls):
        for url in urls.values():
            with pytest.raises(psycopg.errors.LockNotAvailable):
                _execute(url, _INSERT)
    for url in urls.values():
        _execute(url, _INSERT)


def test_who_has_written_is_waited_for_and_nobody_waits_meanwhile(urls: Mapping[str, str]) -> None:
    with psycopg.connect(urls["payment"]) as writer:
        writer.execute(_INSERT)
        begin = time.monotonic()
        with pytest.raises(BUSY), stop_writers(urls):
            pass
        assert time.monotonic() - begin < _MOMENT_SECONDS
        for url in urls.values():
            _execute(url, _INSERT)


def test_tables_that_are_in_use_are_locked_later(urls: Mapping[str, str]) -> None:
    with psycopg.connect(urls["payment"]) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute(_INSERT)
        opened = pool.submit(_count_in_snapshot, urls, "payment")
        with psycopg.connect(urls["payment"], autocommit=True) as observer:
            for expected in (True, False):
                while observer.execute(_IS_WAITING).fetchone() != (expected,):
                    assert not opened.done(), opened.exception()
        writer.commit()
        assert opened.result() == (1,)


def test_tables_that_stay_in_use_are_an_error(
    urls: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "ATTEMPTS", 2)
    with psycopg.connect(urls["payment"]) as writer:
        writer.execute(_INSERT)
        with pytest.raises(SnapshotError, match="in use, such as by a VACUUM, in all 2 attempts"):
            _count_in_snapshot(urls, "payment")


def test_writers_go_on_while_snapshots_are_open_and_are_not_in_them(
    urls: Mapping[str, str],
) -> None:
    _execute(urls["order"], _INSERT)
    with open_snapshots(urls) as opened:
        assert {each.revision for each in opened.values()} == {"0001"}
        for url in urls.values():
            _execute(url, _INSERT)
        counts = {name: _count(urls[name], each.name) for name, each in opened.items()}
        assert counts == {"order": (1,), "payment": (0,)}


def test_no_migration_changes_a_table_while_snapshots_are_open(urls: Mapping[str, str]) -> None:
    with open_snapshots(urls), pytest.raises(psycopg.errors.LockNotAvailable):
        _execute(urls["order"], "ALTER TABLE notes ADD author text")


def test_a_database_without_a_schema_is_named(databases: Databases) -> None:
    url = databases.create_empty()
    with (
        pytest.raises(SnapshotError, match="user: it has no schema"),
        open_snapshots({"user": url}),
    ):
        pass
    databases.drop(url)
