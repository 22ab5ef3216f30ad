"""Freezes the processes of a PostgreSQL server, as a stopped machine or a stuck disk would.

Nothing is closed and nothing fails: the kernel goes on to accept what is sent. The server has to
run on this machine, under this user or one of its namespaces.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

APPLICATION_NAME = "bazaar"
"""What the connections of the services call themselves."""


def list_backends(url: str) -> list[int]:
    """Return the process ids of the services' connections to a database."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"{query} AND application_name = %s", (APPLICATION_NAME,))
        return [row[0] for row in rows]


def find_server(url: str) -> int:
    """Return the process id of the server itself, which takes new connections."""
    with psycopg.connect(url) as connection:
        (directory,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    lock = Path(directory, "postmaster.pid").read_text(encoding="utf-8")
    return int(lock.splitlines()[0])


@contextmanager
def frozen_backends(url: str) -> Iterator[None]:
    """Stop all the services' connections to a database that there are, for the block."""
    with frozen(list_backends(url)):
        yield


@contextmanager
def frozen(process_ids: list[int]) -> Iterator[None]:
    """Stop processes for the block."""
    try:
        for process_id in process_ids:
            os.kill(process_id, signal.SIGSTOP)
        yield
    finally:
        for process_id in process_ids:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGCONT)
