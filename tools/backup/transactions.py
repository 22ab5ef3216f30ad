"""Transaction ids that rows have, on a server that has not come so far.

The feed of order events is in the order of the server's transaction ids, and hands out no event of
a transaction that may still be running. On another server, restored events would look as if they
were of the future, and new ones as if they were older.
"""

from collections.abc import Callable, Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

BATCH = 100_000
_COLUMNS: LiteralString = """
SELECT nspname, relname, attname
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE atttypid = 'xid8'::regtype AND relkind = 'r' AND NOT attisdropped
    AND nspname NOT IN ('pg_catalog', 'information_schema')
"""
# A transaction takes an id when it asks for it. Nothing is lost if the server crashes.
_USE_UP: LiteralString = """
DO $$
BEGIN
    FOR number IN 1..{} LOOP
        PERFORM pg_current_xact_id();
        COMMIT;
    END LOOP;
END
$$
"""


def catch_up(url: str, say: Callable[[str], object]) -> None:
    """Use transaction ids of the server up until they are later than all that a database has.

    Raises:
        psycopg.Error: the database cannot be reached or read.
    """
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        newest = max(_find_newest(connection), default=0)
        connection.execute("SET synchronous_commit = off")
        while (missing := newest - _read_current(connection)) > 0:
            say(f"the server's transaction ids are {missing:,} behind those of the backup")
            batch = sql.Literal(min(missing, BATCH))
            connection.execute(sql.SQL(_USE_UP).format(batch))


def _find_newest(connection: Connection) -> Iterator[int]:
    for *table, column in connection.execute(_COLUMNS).fetchall():
        query = sql.SQL("SELECT coalesce(max({})::text::bigint, 0) FROM {}")
        names = sql.Identifier(column), sql.Identifier(*table)
        yield from (row[0] for row in connection.execute(query.format(*names)))


def _read_current(connection: Connection) -> int:
    """Return an id that is used up by asking for it."""
    (current,) = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
    return int(current)
