"""Plain SQL in revisions."""

from typing import LiteralString, cast

import psycopg
from alembic import op


def run(script: LiteralString) -> None:
    """Execute a script of SQL statements, without parameters, in the transaction of Alembic.

    `op.execute` would replace `:name`, and `exec_driver_sql` would replace `%`.
    """
    connection = cast("psycopg.Connection", op.get_bind().connection.dbapi_connection)
    connection.execute(script)
