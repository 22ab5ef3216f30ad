"""The server against real processes: data that stays, crashes, and all that can be in its way."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tools.postgres.programs import find_programs
from tools.postgres.server import Process, Server, ServerError, find_processes_in, stop
from tools.postgres.throwaway import run_throwaway_server

StartServer = Callable[[], Process]


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until(condition: Callable[[], bool], timeout_seconds: float = 20) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="server-test-") as name:
        root = Path(name)
        programs = find_programs(root)
        programs.give(root)
        server = Server(
            programs,
            root / "data",
            root / "log",
            _find_port(),
            user="shop",
            password="p@ss/word",
            options={"fsync": "off"},
        )
        yield server
        _wait_until(lambda: not find_processes_in(server.data_directory))


@pytest.fixture
def start(server: Server) -> Iterator[StartServer]:
    processes: list[Process] = []

    def start_server() -> Process:
        server.prepare()
        process = server.start()
        processes.append(process)
        return process

    yield start_server
    for process in processes:
        if process.poll() is None:
            stop(process)


def _count(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
        return row and row[0]


def _insert(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT uuidv7() AS id")


def test_data_survives_a_restart(server: Server, start: StartServer) -> None:
    process = start()
    _insert(server.url("postgres"))
    stop(process)
    assert process.returncode == 0
    start()
    assert _count(server.url("postgres")) == 1


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_roles_do_not_connect_to_the_databases_of_the_server(
    server: Server, start: StartServer, database: str
) -> None:
    start()
    with psycopg.connect(server.url(database)) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'p'")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(database), user="app", password="p")


def test_stop_does_not_wait_for_clients(server: Server, start: StartServer) -> None:
    process = start()
    with psycopg.connect(server.url("postgres")):
        stop(process, timeout_seconds=10)
    assert process.returncode == 0


def test_a_killed_server_recovers_what_was_committed(server: Server, start: StartServer) -> None:
    process = start()
    _insert(server.url("postgres"))
    process.kill()
    process.wait()
    _wait_until(lambda: not find_processes_in(server.data_directory))
    start()
    assert _count(server.url("postgres")) == 1


def test_the_lock_of_a_killed_server_may_name_a_living_process(
    server: Server, start: StartServer
) -> None:
    stop(start())
    lock = server.data_directory / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{server.data_directory}\n0\n{server.port}\n\n\n\nready\n")
    start()


def test_a_stale_lock_that_says_ready_is_not_readiness(server: Server) -> None:
    server.prepare()
    (server.data_directory / "postmaster.pid").write_text("1\n\n\n\n\n\n\nready  \n")
    assert server.is_ready(1)
    assert not server.is_ready(2)


def test_a_second_server_on_the_same_data_is_refused(server: Server, start: StartServer) -> None:
    process = start()
    with pytest.raises(ServerError, match=rf"already runs on .* as process {process.pid}"):
        server.prepare()


def test_every_connection_needs_the_password(server: Server, start: StartServer) -> None:
    start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url("postgres").replace("p%40ss", "guess"))


def test_a_foreign_directory_is_left_alone(server: Server) -> None:
    server.data_directory.mkdir()
    (server.data_directory / "thesis.txt").touch()
    with pytest.raises(ServerError, match="no PostgreSQL data directory"):
        server.prepare()
    assert [path.name for path in server.data_directory.iterdir()] == ["thesis.txt"]


def test_data_of_another_version_is_left_alone(server: Server) -> None:
    server.prepare()
    (server.data_directory / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServerError, match="made by PostgreSQL 17, and this is 18"):
        server.prepare()


def test_an_interrupted_initialisation_is_begun_again(server: Server, start: StartServer) -> None:
    unfinished = server.data_directory.with_name("data.unfinished")
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    start()
    assert not unfinished.exists()


def test_a_port_in_use_is_said(server: Server) -> None:
    server.prepare()
    in_use = pytest.raises(ServerError, match="Address already in use")
    with socket.create_server(("127.0.0.1", server.port)), in_use:
        server.start()
    assert not find_processes_in(server.data_directory)


_RUN_AND_WAIT = """
import sys
from tools.postgres.throwaway import run_throwaway_server
with run_throwaway_server() as server:
    print(server.data_directory, flush=True)
    sys.stdin.read()
"""


def test_no_process_outlives_a_killed_runner() -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", _RUN_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with runner:
        assert runner.stdout is not None
        data_directory = Path(runner.stdout.readline().strip())
        assert len(find_processes_in(data_directory)) > 1
        runner.kill()
    _wait_until(lambda: not find_processes_in(data_directory))
    assert data_directory.exists()
    with run_throwaway_server():
        assert not data_directory.exists(), "the next run removes what the killed one left"


def test_a_throwaway_server_leaves_nothing_behind() -> None:
    with run_throwaway_server() as server:
        root = server.data_directory.parent
        assert root.exists()
    assert not root.exists()
    assert not find_processes_in(server.data_directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_namespaces_runs_a_copy_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        commands = Path(name)
        commands.chmod(0o755)
        (commands / "setpriv").symlink_to(str(shutil.which("setpriv")))
        for command in ("sh", "true"):
            (commands / command).symlink_to(str(shutil.which(command)))
        monkeypatch.setenv("PATH", name)  # unshare is not in it.
        with run_throwaway_server() as server:
            assert server.programs.prefix[0] == "setpriv"
            assert server.data_directory.stat().st_uid == 65534
            with psycopg.connect(server.url("postgres")) as connection:
                connection.execute("SELECT uuidv7()")
