"""Servers for tests: in memory where there is room, not durable, and removed afterwards."""

import contextlib
import dataclasses
import fcntl
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.postgres.programs import find_programs
from tools.postgres.server import NOT_DURABLE, Process, Server, ServerError, stop

_PREFIX = "bazaar-postgres-"
_MEMORY = Path("/dev/shm")  # noqa: S108 - directories in it are made by mkdtemp.
_MEMORY_NEEDED_BYTES = 512 * 1024 * 1024
_START_ATTEMPTS = 5
_OPTIONS = {
    **NOT_DURABLE,
    "max_connections": "200",
    # In the data directory, so that it goes with it, even after kill -9.
    "dynamic_shared_memory_type": "mmap",
}


@contextlib.contextmanager
def run_throwaway_server(archive: Path | None = None) -> Iterator[Server]:
    """Run a new server on a free port for as long as the block lasts, and leave nothing behind.

    Its data is that of a tar archive of a data directory, if there is one.

    Whatever way this process ends, the server ends too; the directory that a killed one leaves is
    removed by the next. Use it from the main thread.

    Raises:
        ServerError: The server did not start.
    """
    parent = find_fast_directory()
    _remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        root = Path(name)
        with _open_lock(root):
            programs = find_programs(root)
            programs.give(root)
            server = Server(programs, root / "data", root / "log", find_port(), options=_OPTIONS)
            if archive is not None:
                _unpack(archive, server)
            server.prepare()
            server, process = _start(server)
            try:
                yield server
            finally:
                stop(process)


def _unpack(archive: Path, server: Server) -> None:
    directory = server.data_directory
    directory.mkdir(mode=0o700)
    server.programs.give(directory)
    with archive.open("rb") as file:
        # As whoever the server runs as, to whom the files then belong.
        command = [*server.programs.prefix, "tar", "-x", "-C", str(directory)]
        subprocess.run(command, stdin=file, check=True)


def _start(server: Server) -> tuple[Server, Process]:
    """Start the server; another program may take the free port first, so try a few."""
    for _ in range(_START_ATTEMPTS - 1):
        try:
            return server, server.start()
        except ServerError as error:
            if "Address already in use" not in str(error):
                raise
            server = dataclasses.replace(server, port=find_port())
    return server, server.start()


def find_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_fast_directory() -> Path:
    """Return where temporary data goes: to memory if that is there, writable and large enough."""
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix="probe-", dir=_MEMORY):
        if shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED_BYTES:
            return _MEMORY
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def _open_lock(root: Path) -> Iterator[None]:
    """Hold the lock that marks `root` as in use."""
    unfinished = root / "lock.unfinished"
    with unfinished.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unfinished.rename(root / "lock")  # Nobody sees the file before it is locked.
        yield


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories whose owner was killed."""
    for root in parent.glob(f"{_PREFIX}*"):
        try:
            lock = (root / "lock").open("r+")
        except OSError:  # Somebody else's, just being made or just being removed.
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(root, ignore_errors=True)
