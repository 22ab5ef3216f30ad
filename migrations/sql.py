"""Plain SQL in revisions."""

from typing import Any, LiteralString, cast

import psycopg
from alembic import op

from migrations import locks

_INDEX_LOCK_TIMEOUT: LiteralString = "10min"
_INVALID: LiteralString = (
    "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"
)


def run(script: LiteralString) -> None:
    """Execute a script of SQL statements, without parameters, in the transaction of Alembic.

    `op.execute` would replace `:name`, and `exec_driver_sql` would replace `%`.
    """
    _find_connection().execute(script)


def create_index(name: LiteralString, definition: LiteralString, *, unique: bool = False) -> None:
    """Create an index of a table in public, which others write to meanwhile.

    `definition` is what follows the name in CREATE INDEX CONCURRENTLY, such as "ON orders (state)".
    That runs outside a transaction: put it into a revision of its own, which can be run again. What
    a failed try left, an invalid index, is replaced.

    It waits up to 10 minutes for the transactions that are older, and no other waits for it.

    Raises:
        LockedError: One of them took longer. The index is invalid, until the next run replaces it.
    """
    kind: LiteralString = "UNIQUE INDEX" if unique else "INDEX"
    with op.get_context().autocommit_block():
        connection = _find_connection()
        connection.execute(f"SET lock_timeout = '{_INDEX_LOCK_TIMEOUT}'")
        try:
            if connection.execute(_INVALID, [name]).rowcount:
                connection.execute(f"DROP INDEX CONCURRENTLY {name}")
            connection.execute(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} {definition}")
        except psycopg.errors.LockNotAvailable as error:
            # It is not tried again at once: this was long enough.
            message = f"{name} waited {_INDEX_LOCK_TIMEOUT} for an older transaction: end that"
            raise locks.LockedError(message) from error
        finally:
            connection.execute(locks.SET_TIMEOUT)


def _find_connection() -> "psycopg.Connection[Any]":
    return cast("psycopg.Connection[Any]", op.get_bind().connection.dbapi_connection)
