"""A revision waits for a lock for a moment only, and is tried again."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg.sql import SQL

from migrations import locks, schema
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)

_UPGRADE = """
import sys
from migrations import locks, schema
locks.ATTEMPTS, url, revision = int(sys.argv[1]), *sys.argv[2:]
try:
    schema.upgrade("order", url, revision)
except schema.SchemaError as error:
    sys.exit(str(error))
"""
_MANY_ATTEMPTS = 5
_PATIENCE_SECONDS = 30
# A transaction that has read orders and goes on. Revision 0006 changes the table.
_READ: LiteralString = "SELECT count(*) FROM orders"


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """Yield the URL of the database of orders before revision 0006."""
    created = databases.create_empty()
    schema.upgrade("order", created, "0005")
    yield created
    databases.drop(created)


def _start(url: str, attempts: int, revision: str = "0006") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _UPGRADE, str(attempts), url, revision]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _wait_until_it_waits(
    run: "subprocess.Popen[str]", observer: psycopg.Connection, table: LiteralString = "orders"
) -> None:
    query = SQL(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass({}))"
    ).format(table)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while observer.execute(query).fetchone() != (True,):
        assert time.monotonic() < deadline, "it does not wait"
        assert run.poll() is None, run.communicate()[1]


def test_others_read_on_while_a_revision_waits_for_a_lock(url: str) -> None:
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as reader:
        holder.execute(_READ)
        run = _start(url, _MANY_ATTEMPTS)
        _wait_until_it_waits(run, reader)
        # It queues behind the revision, until that gives up.
        reader.execute("SET statement_timeout = '10s'")
        reader.execute(_READ)
        assert run.poll() is None, "it was not tried again"
        assert schema.read_revision("order", url) == "0005"
        _wait_until_it_waits(run, reader)
        holder.rollback()
        assert run.communicate(timeout=_PATIENCE_SECONDS)[1] == ""
    assert schema.read_revision("order", url) == "0006"


def test_a_revision_that_gets_no_lock_changes_nothing_and_names_who_holds_it(url: str) -> None:
    with psycopg.connect(url) as holder:
        holder.execute(_READ)
        # 0005 has been applied, and 0006 fails; 0007 changes no table that is there.
        run = _start(url, 1, "0007")
        _, error = run.communicate(timeout=_PATIENCE_SECONDS)
        assert run.returncode == 1
        holding = f"orders is in use by process {holder.info.backend_pid} of {holder.info.user}"
        message = f"order: a lock could not be taken within 3 s (attempts: 1): {holding} (idle in"
        assert message in error
        assert schema.read_revision("order", url) == "0005"
    schema.upgrade("order", url, "0007")


def test_a_revision_that_was_chosen_to_end_a_deadlock_is_tried_again(
    databases: Databases,
) -> None:
    url = databases.create_empty()
    schema.upgrade("order", url, "0002")
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as observer:
        holder.execute("SET deadlock_timeout = '1h'")
        holder.execute("SELECT count(*) FROM outbox")
        run = _start(url, _MANY_ATTEMPTS, "0003")
        _wait_until_it_waits(run, observer, "outbox")
        # The revision holds orders, and waits for the outbox.
        holder.execute(_READ)
        holder.rollback()
        assert run.communicate(timeout=_PATIENCE_SECONDS)[1] == ""
    databases.drop(url)


def test_other_errors_are_not_tried_again(url: str) -> None:
    with psycopg.connect(url) as connection:
        attempts: list[None] = []

        def fail() -> None:
            attempts.append(None)
            connection.execute("SELECT 1 / 0")

        with pytest.raises(psycopg.errors.DivisionByZero):
            locks.retry(url, connection, fail)
        assert len(attempts) == 1
