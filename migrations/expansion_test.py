"""Revisions hold up nobody for long, and let the version before them go on.

What a revision does is seen in the transaction that runs it, on tables without rows: which tables
it scans while others may not write to them, and what it takes from those who use them.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, LiteralString, cast

import psycopg
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from migrations import schema, sql
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "order"

_FIRST = {"user": "0007", "product": "0005", "order": "0008", "payment": "0008", "gateway": "0003"}
"""The first revision of each database that has to keep the rules."""

# The locks that keep others from writing to a table, and the one of whoever writes to rows of it.
# VALIDATE CONSTRAINT and CREATE INDEX CONCURRENTLY scan under a lock that is none of these.
_SCANS: LiteralString = """
SELECT DISTINCT relation::regclass || ' is scanned under a lock'
FROM pg_locks JOIN pg_stat_xact_user_tables ON relid = relation
WHERE pid = pg_backend_pid() AND granted AND seq_scan > 0 AND mode IN (
    'RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
    'AccessExclusiveLock'
) AND relation = ANY (%s)
"""
_TABLES: LiteralString = "SELECT relid FROM pg_stat_user_tables"
_COLUMNS: LiteralString = """
SELECT attrelid, attname, attrelid::regclass || '.' || attname,
    format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = ''
FROM pg_attribute WHERE attrelid = ANY (%s) AND attnum > 0 AND NOT attisdropped
"""


def _find_scans(connection: psycopg.Connection, tables: list[int]) -> list[str]:
    return sorted(row[0] for row in connection.execute(_SCANS, [tables]))


def _find_lost(before: dict[Any, Any], after: dict[Any, Any]) -> list[str]:
    """Return what a version that knows the columns before would miss, or would not know to set."""
    faults = [f"{name} is gone" for key, (name, _, _) in before.items() if key not in after]
    for key, (name, type_, must_be_set) in after.items():
        _, type_before, had_to_be_set = before.get(key, (name, type_, False))
        if type_ != type_before:
            faults.append(f"{name} is another type")
        if must_be_set and not had_to_be_set:
            faults.append(f"{name} has to be set")
    return sorted(faults)


def _read_columns(connection: psycopg.Connection, tables: list[int]) -> dict[Any, Any]:
    rows = connection.execute(_COLUMNS, [tables])
    return {(table, column): rest for table, column, *rest in rows}


def find_faults(
    connection: psycopg.Connection, change: Callable[[], object], *, contracts: bool = False
) -> list[str]:
    """Run a change in a transaction, and return what it does to those who use the tables."""
    tables = [row[0] for row in connection.execute(_TABLES)]
    before = _read_columns(connection, tables)
    change()
    lost = [] if contracts else _find_lost(before, _read_columns(connection, tables))
    return _find_scans(connection, tables) + lost


def find_faults_of_revision(url: str, module: Any) -> list[str]:
    """Return the faults of the module of a revision, which is next; it is rolled back."""
    with schema._connect(url) as connection:
        raw = cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)
        options = {"transaction_per_migration": True}
        context = MigrationContext.configure(connection, opts=options)
        transaction = context.begin_transaction(_per_migration=True)
        with Operations.context(context), transaction:
            contracts = getattr(module, "contracts", "")
            assert contracts < module.revision, "it contracts what an earlier revision expanded"
            faults = find_faults(raw, module.upgrade, contracts=bool(contracts))
            raw.rollback()
        return faults


@pytest.mark.parametrize("database", schema.DATABASES)
def test_revisions_hold_up_nobody_and_let_the_version_before_go_on(
    databases: Databases, database: str
) -> None:
    url = databases.create_empty()
    for script in schema.list_revisions(database):
        if script.revision >= _FIRST[database]:
            assert find_faults_of_revision(url, script.module) == [], script.path
        schema.upgrade(database, url, script.revision)
    databases.drop(url)


def test_an_old_revision_breaks_the_rules(databases: Databases) -> None:
    url = databases.create_empty()
    schema.upgrade("order", url, "0002")
    module = schema.list_revisions("order")[2].module
    assert find_faults_of_revision(url, module) == [
        "orders is scanned under a lock",
        "orders.cancel_requested is gone",
        *(f"outbox.{name} is gone" for name in ("create_time", "event_id", "order_id", "state")),
    ]
    databases.drop(url)


_SCANNED = "orders is scanned under a lock"


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        ("CREATE INDEX ON orders (state)", [_SCANNED]),
        ("CREATE UNIQUE INDEX ON orders (payment_id)", [_SCANNED]),
        ("REINDEX TABLE orders", [_SCANNED]),
        ("UPDATE orders SET attempts = 0", [_SCANNED]),
        ("DELETE FROM orders WHERE state = 'REJECTED'", [_SCANNED]),
        ("ALTER TABLE orders ADD CHECK (version > 0)", [_SCANNED]),
        (
            "ALTER TABLE orders ALTER COLUMN lease_until SET NOT NULL",
            [_SCANNED, "orders.lease_until has to be set"],
        ),
        (
            "ALTER TABLE orders ADD CONSTRAINT leased NOT NULL lease_until NOT VALID",
            ["orders.lease_until has to be set"],
        ),
        (
            "ALTER TABLE orders ALTER COLUMN version DROP DEFAULT",
            ["orders.version has to be set"],
        ),
        ("ALTER TABLE orders ADD note uuid NOT NULL DEFAULT uuidv7()", [_SCANNED]),
        ("ALTER TABLE orders ADD note text CHECK (note <> '')", [_SCANNED]),
        (
            "ALTER TABLE orders ADD CONSTRAINT positive CHECK (version > 0) NOT VALID;"
            " ALTER TABLE orders VALIDATE CONSTRAINT positive",
            [_SCANNED],
        ),
        (
            "CREATE TABLE carriers (carrier_id uuid PRIMARY KEY);"
            " ALTER TABLE orders ADD FOREIGN KEY (payment_id) REFERENCES carriers",
            [_SCANNED],
        ),
        (
            "ALTER TABLE orders ALTER COLUMN version TYPE bigint",
            [_SCANNED, "orders.version is another type"],
        ),
        (
            "CREATE TABLE notes (order_id uuid PRIMARY KEY REFERENCES orders, note text NOT NULL);"
            " INSERT INTO notes SELECT order_id, '' FROM orders",
            [_SCANNED],
        ),
        ("ALTER TABLE orders ADD note text NOT NULL", [_SCANNED, "orders.note has to be set"]),
        ("ALTER TABLE orders DROP COLUMN attempts", ["orders.attempts is gone"]),
        (
            "ALTER TABLE orders RENAME COLUMN attempts TO tries",
            ["orders.attempts is gone"],
        ),
        ("ALTER TABLE orders ADD note text", []),
        ("ALTER TABLE orders ADD note text NOT NULL DEFAULT ''", []),
        ("ALTER TABLE orders ADD CHECK (version > 0) NOT VALID", []),
        ("ALTER TABLE orders DROP CONSTRAINT orders_state_check", []),
        ("DROP INDEX orders_user_id_idx", []),
        (
            "CREATE TABLE notes (order_id uuid PRIMARY KEY REFERENCES orders, note text NOT NULL);"
            " CREATE INDEX ON notes (note)",
            [],
        ),
        ("CREATE TABLE notes AS SELECT order_id, '' AS note FROM orders", []),
    ],
)
def test_what_holds_others_up_is_found(
    database_url: str, statement: LiteralString, faults: list[str]
) -> None:
    with psycopg.connect(database_url) as connection:
        found = find_faults(connection, lambda: connection.execute(statement))
        connection.rollback()
    assert found == faults


def test_a_constraint_may_be_validated_by_a_revision_of_its_own(databases: Databases) -> None:
    url = databases.create("order")
    with psycopg.connect(url) as connection:
        connection.execute(
            "ALTER TABLE orders ADD CONSTRAINT positive CHECK (version > 0) NOT VALID"
        )
        connection.commit()
        validate: LiteralString = "ALTER TABLE orders VALIDATE CONSTRAINT positive"
        assert find_faults(connection, lambda: connection.execute(validate)) == []
    databases.drop(url)


def test_an_index_that_is_created_while_others_write_is_allowed(databases: Databases) -> None:
    url = databases.create("order")
    module = SimpleNamespace(
        revision="9999", upgrade=lambda: sql.create_index("orders_state_idx", "ON orders (state)")
    )
    assert find_faults_of_revision(url, module) == []
    databases.drop(url)


def test_a_revision_that_contracts_may_take_a_column(database_url: str) -> None:
    drop: LiteralString = "ALTER TABLE orders DROP COLUMN attempts"
    with psycopg.connect(database_url) as connection:
        assert find_faults(connection, lambda: connection.execute(drop), contracts=True) == []
        connection.rollback()
