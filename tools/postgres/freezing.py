"""Stops processes of a PostgreSQL server with SIGSTOP, as a frozen machine or a stuck disk would.

No connection is closed and no write fails: the kernel goes on to accept data. The server has to run
on this machine, under this user or in one of its namespaces.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

APPLICATION_NAME = "bazaar"
"""The application_name of the services' connections."""


def list_backends(url: str) -> list[int]:
    """Return the process ids of the services' connections to a database."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"{query} AND application_name = %s", (APPLICATION_NAME,))
        return [row[0] for row in rows]


def find_server(url: str) -> int:
    """Return the process id of the postmaster, which accepts new connections."""
    with psycopg.connect(url) as connection:
        (directory,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    lock = Path(directory, "postmaster.pid").read_text(encoding="utf-8")
    return int(lock.splitlines()[0])


@contextmanager
def frozen_backends(url: str) -> Iterator[None]:
    """Within the block, stop the processes of the services' open connections to a database."""
    with frozen(list_backends(url)):
        yield


@contextmanager
def frozen(process_ids: list[int]) -> Iterator[None]:
    """Within the block, stop processes; continue them at its end."""
    try:
        for process_id in process_ids:
            os.kill(process_id, signal.SIGSTOP)
        yield
    finally:
        for process_id in process_ids:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGCONT)
