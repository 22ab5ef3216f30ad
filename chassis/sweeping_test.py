"""Sweeps of a table of their own, on a real database."""

from collections.abc import Iterator

import psycopg
import pytest

from chassis.database import Database
from chassis.sweeping import BATCH, sweep

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "user"
EXPIRED = "expire_time <= now() - make_interval(secs => %(seconds)s)"


@pytest.fixture
def rows(clean_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(clean_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE swept (number integer, expire_time timestamptz)")
        connection.execute("GRANT ALL ON swept TO PUBLIC")
        yield connection
        connection.execute("DROP TABLE swept")


def insert(rows: psycopg.Connection, count: int, age_seconds: float) -> None:
    rows.execute(
        "INSERT INTO swept SELECT number, now() - make_interval(secs => %s)"
        " FROM generate_series(1, %s) AS number",
        (age_seconds, count),
    )


def count(rows: psycopg.Connection) -> int:
    return rows.execute("SELECT FROM swept").rowcount


async def test_rows_that_have_expired_are_deleted(
    rows: psycopg.Connection, database: Database
) -> None:
    insert(rows, 3, age_seconds=100)
    insert(rows, 2, age_seconds=0)
    assert await sweep(database, "swept", EXPIRED, {"seconds": 50}) == 3
    assert count(rows) == 2


async def test_all_are_deleted_in_statements_of_bounded_size(
    rows: psycopg.Connection, database: Database, statements: list[object]
) -> None:
    insert(rows, 2 * BATCH + 1, age_seconds=100)
    statements.clear()
    assert await sweep(database, "swept", EXPIRED, {"seconds": 50}) == 2 * BATCH + 1
    assert len(statements) == 3
    assert count(rows) == 0


async def test_what_another_process_sweeps_is_left_to_it(
    rows: psycopg.Connection, database: Database
) -> None:
    insert(rows, 4, age_seconds=100)
    with rows.transaction():
        rows.execute("SELECT FROM swept WHERE number = 1 FOR UPDATE")
        assert await sweep(database, "swept", EXPIRED, {"seconds": 50}) == 3
    assert await sweep(database, "swept", EXPIRED, {"seconds": 50}) == 1
