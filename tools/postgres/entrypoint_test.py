"""The program of the PostgreSQL image, with the variables that the official image has."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tools.postgres.entrypoint import CLIENTS
from tools.postgres.throwaway import find_fast_directory

START_SECONDS = 15
COMMAND = (sys.executable, "-m", "tools.postgres.entrypoint")
SETTINGS = {"POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "ada", "POSTGRES_DB": 'the "shop"'}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=find_fast_directory()) as path:
        yield Path(path) / "data"


def make_environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **settings}


@contextmanager
def running(directory: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Run the program, and yield the server's part of URLs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    environment = make_environment({**settings, "PGDATA": str(directory)})
    process = subprocess.Popen([*COMMAND, *options], env=environment)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=START_SECONDS) == 0


def connect(url: str) -> "psycopg.Connection[tuple[object]]":
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg.connect(url, connect_timeout=2)
        except psycopg.OperationalError as error:
            if "refused" not in str(error) and "starting up" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_new_server_has_the_database_of_the_variables_and_keeps_it(directory: Path) -> None:
    database = quote('the "shop"')
    for statement in ("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)"):
        with (
            running(directory, SETTINGS) as server,
            connect(f"postgresql://ada:secret@{server}/{database}") as connection,
        ):
            connection.execute(statement)
            # Without it, programs refuse a server that may lose commits.
            setting = connection.execute("SELECT current_setting('bazaar.allow_data_loss')")
            assert setting.fetchall() == [("on",)]
    assert (directory / "pg_hba.conf").read_text().count(CLIENTS) == 1


def test_clients_elsewhere_need_the_password(directory: Path) -> None:
    with running(directory, {"POSTGRES_PASSWORD": "secret"}) as server:
        with connect(f"postgresql://postgres:secret@{server}/postgres") as connection:
            rules = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
            assert connection.execute(rules).fetchall() == [("scram-sha-256",)]
            elsewhere = connection.execute(f"{rules} WHERE address = 'all'").fetchall()
            assert elsewhere == [("scram-sha-256",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(f"postgresql://postgres:wrong@{server}/postgres")


def test_the_password_may_be_in_a_file(directory: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from a file\n")
    with running(directory, {"POSTGRES_PASSWORD_FILE": str(secret)}) as server:
        password = quote("from a file")
        with connect(f"postgresql://postgres:{password}@{server}/postgres") as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_server_without_a_password_is_refused() -> None:
    result = subprocess.run(
        COMMAND, env=make_environment({}), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (
        1,
        "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set.\n",
    )
