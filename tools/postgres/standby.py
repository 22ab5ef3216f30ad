"""A streaming replica of the test server: paused, killed and started again as tests like.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import conninfo

from tools.postgres.programs import find_programs
from tools.postgres.server import NOT_DURABLE, Process, Server, stop
from tools.postgres.throwaway import find_fast_directory, find_port

_OPTIONS = {
    **NOT_DURABLE,
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",
    "max_standby_streaming_delay": "100ms",
    "wal_retrieve_retry_interval": "100ms",
}

_IS_PAUSED = "SELECT pg_get_wal_replay_pause_state() = 'paused'"


@dataclass
class Standby:
    """A replica of a server, which runs unless it was killed."""

    server: Server
    process: Process

    def url(self, primary_url: str) -> str:
        """Return the URL of a database here, from its URL at the primary."""
        return conninfo.make_conninfo(primary_url, host=self.server.host, port=self.server.port)

    def kill(self) -> None:
        """End it at once, as a crash would, with all its processes."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, from the main thread."""
        self.server.prepare()
        self.process = self.server.start()

    @contextmanager
    def delayed(self, delay: str) -> Iterator[None]:
        """Within the block, replay each commit so long after it was made."""
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            _set_delay(connection, delay)
            try:
                yield
            finally:
                _set_delay(connection, "0")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block, receive the log of the primary without replaying it."""
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            try:
                # The replay of a record may be in progress.
                while connection.execute(_IS_PAUSED).fetchone() != (True,):
                    pass
                yield
            finally:
                connection.execute("SELECT pg_wal_replay_resume()")


def _set_delay(connection: psycopg.Connection, delay: str) -> None:
    connection.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'".encode())
    connection.execute("SELECT pg_reload_conf()")


@contextmanager
def run_standby(primary_url: str) -> Iterator[Standby]:
    """Run a replica of the server of a superuser's URL for as long as the block lasts.

    Raises:
        ServerError: it did not start.
    """
    with tempfile.TemporaryDirectory(dir=find_fast_directory()) as name:
        root = Path(name)
        programs = find_programs(root)
        programs.give(root)
        data = root / "data"
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        command = programs.command(
            "pg_basebackup", f"--dbname={primary_url}", f"--pgdata={data}", *options
        )
        subprocess.run(command, check=True)
        server = Server(programs, data, root / "log", find_port(), options=_OPTIONS)
        standby = Standby(server, server.start())
        try:
            yield standby
        finally:
            stop(standby.process)


def make_durable(url: str) -> None:
    """Have the commits in a database of the test server wait for its log, which replicas follow."""
    name = str(conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET synchronous_commit = on").format(
                psycopg.sql.Identifier(name)
            )
        )


@contextmanager
def fenced(url: str) -> Iterator[None]:
    """Within the block, have a server take no writes, as one whose place another takes should."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
