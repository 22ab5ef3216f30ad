"""Sweeps: rows that have expired are deleted, in statements of bounded size."""

from collections.abc import Mapping
from typing import LiteralString

from chassis.database import Database

BATCH = 1_000
"""How many rows one statement deletes at most."""


async def sweep(
    database: Database,
    table: LiteralString,
    expired: LiteralString,
    parameters: Mapping[str, object] | None = None,
) -> int:
    """Delete the rows of a table for which the SQL `expired` is true; return their number.

    Any number of processes may sweep at once: each skips rows that another one has locked.

    Raises:
        errors.Unavailable: the database is down.
        errors.DeadlineExceeded: it is slow; what was deleted before stays so.
    """
    statement: LiteralString = (
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
        f"SELECT ctid FROM {table} WHERE {expired} LIMIT {BATCH} FOR UPDATE SKIP LOCKED))"
    )
    total = 0
    while True:
        async with database.connection() as connection:
            deleted = (await connection.execute(statement, parameters)).rowcount
        total += deleted
        if deleted < BATCH:
            return total
