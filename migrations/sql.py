"""What a revision file needs: a way to run plain SQL in Alembic's transaction."""

from typing import LiteralString, cast

import psycopg
from alembic import op


def run(script: LiteralString) -> None:
    """Run any number of SQL statements as they stand.

    Not `op.execute`, which takes ` :name` for a parameter, and not `exec_driver_sql`, which trips
    over `%`.
    """
    connection = cast("psycopg.Connection", op.get_bind().connection.dbapi_connection)
    connection.execute(script)
