"""A revision creates an index of a large table while others write to it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from migrations import locks, schema
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

_REVISION = '''
"""Find orders by their state."""

from migrations import sql

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    """Create the index."""
    sql.create_index("orders_state_idx", "ON orders (state)")


def downgrade() -> None:
    """Drop it."""
    sql.run("DROP INDEX orders_state_idx")
'''
_UPGRADE = """
import sys
from migrations import locks, schema, sql
locks.TRIES = int(sys.argv[2])
sql._INDEX_LOCK_TIMEOUT = sys.argv[3]
try:
    schema.upgrade("order", sys.argv[1])
except schema.SchemaError as error:
    sys.exit(str(error))
"""
_INSERT = """
INSERT INTO orders (user_id, idempotency_key, request_hash, payment_method)
VALUES (uuidv7(), 'k', sha256('x'), 'pm_card_visa')
"""
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orders_state_idx')"

_PATIENCE_SECONDS = 30
_POLL_SECONDS = 0.01

_REPLACING = """
SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE query LIKE 'DROP INDEX CONCURRENTLY %' AND state = 'active')
"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """Yield the URL of a database of orders, at the newest revision."""
    created = databases.create_empty()
    schema.upgrade("order", created)
    yield created
    databases.drop(created)


@pytest.fixture
def start(tmp_path: Path) -> Run:
    """Return what upgrades a database by the migrations and one more, which creates the index."""
    package = tmp_path / "migrations"
    shutil.copytree(Path(schema.__file__).parent, package)
    head = schema.list_revisions("order")[-1].revision
    path = package / "order" / "versions" / "9999_orders_state.py"
    path.write_text(_REVISION.format(head=head), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    def run(url: str, tries: int = 1, lock_timeout: str = "10min") -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _UPGRADE, url, str(tries), lock_timeout]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return run


def _wait_for_the_index(run: "subprocess.Popen[str]", connection: psycopg.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while connection.execute(_VALID).fetchone() is None:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline, "there is no index yet"
        time.sleep(_POLL_SECONDS)


def test_others_write_while_an_index_is_created(url: str, start: Run) -> None:
    with (
        psycopg.connect(url) as older,
        psycopg.connect(url, autocommit=True) as writer,
    ):
        older.execute(_INSERT)
        run = start(url)
        # It waits for the older transaction, and is there already.
        _wait_for_the_index(run, writer)
        writer.execute("SET lock_timeout = '1s'")
        writer.execute(_INSERT)
        time.sleep(locks.LOCK_TIMEOUT_SECONDS)  # Longer than others would wait behind a change.
        assert writer.execute(_VALID).fetchone() == (False,)
        older.commit()
        assert run.communicate(timeout=_PATIENCE_SECONDS)[1] == ""
        assert writer.execute(_VALID).fetchone() == (True,)
    assert schema.read_revision("order", url) == "9999"


def test_an_index_that_a_failed_try_left_is_replaced(url: str, start: Run) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_INSERT)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute(
                "CREATE INDEX CONCURRENTLY orders_state_idx ON orders ((1 / (version - version)))"
            )
        assert connection.execute(_VALID).fetchone() == (False,)
        assert start(url).communicate(timeout=_PATIENCE_SECONDS)[1] == ""
        assert connection.execute(_VALID).fetchone() == (True,)


def test_a_run_that_was_killed_after_the_index_was_created_can_be_repeated(
    url: str, start: Run
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE INDEX orders_state_idx ON orders (state)")
    assert start(url).communicate(timeout=_PATIENCE_SECONDS)[1] == ""
    assert schema.read_revision("order", url) == "9999"


def test_a_run_that_was_killed_while_it_created_the_index_does_not_hold_up_the_next(
    url: str, start: Run
) -> None:
    with psycopg.connect(url) as older, psycopg.connect(url, autocommit=True) as observer:
        older.execute(_INSERT)
        with start(url) as killed:
            _wait_for_the_index(killed, observer)
            killed.kill()
        run = start(url)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while observer.execute(_REPLACING).fetchone() != (True,):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, "it waits for the one that was killed"
        older.commit()
        assert run.communicate(timeout=_PATIENCE_SECONDS)[1] == ""
        assert observer.execute(_VALID).fetchone() == (True,)


def test_an_index_that_waits_for_too_long_is_an_error_at_once(url: str, start: Run) -> None:
    with psycopg.connect(url) as older:
        older.execute(_INSERT)
        run = start(url, tries=2, lock_timeout="500ms")
        _, error = run.communicate(timeout=_PATIENCE_SECONDS)
        assert error == (
            "order: orders_state_idx waited 500ms for an older transaction: end that\n"
        )
    assert start(url).communicate(timeout=_PATIENCE_SECONDS)[1] == ""


def test_a_second_run_does_not_hold_up_the_first(url: str, start: Run) -> None:
    with psycopg.connect(url) as older, psycopg.connect(url, autocommit=True) as observer:
        older.execute(_INSERT)
        first = start(url)
        _wait_for_the_index(first, observer)
        second = start(url)
        asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%advisory\\_lock(%'"
        while observer.execute(f"{asking} AND pid <> pg_backend_pid()").fetchone() == (0,):
            assert second.poll() is None, second.communicate()[1]
            time.sleep(_POLL_SECONDS)
        older.commit()
        assert [run.communicate(timeout=_PATIENCE_SECONDS)[1] for run in (first, second)] == [
            "",
            "",
        ]
