"""One PostgreSQL server on this machine over one data directory: made, started and stopped.

It knows nothing about what is inside the databases, nor whether the data is durable
(throwaway.py is for data that is not).
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from chassis.settings import address
from tools.postgres.programs import Programs

Process = subprocess.Popen[bytes]

_MAJOR_VERSION = "18"
_LOCALE = (
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C.UTF-8",
)
_REVOKE = b"REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC"
"""By default every role may connect to them, and make temporary tables there."""
NOT_DURABLE = {
    "bazaar.allow_data_loss": "on",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}
"""Options of a server that may lose data and says so; programs refuse one that does not say so."""
_POLL_SECONDS = 0.005
_LOG_TAIL_LINES = 12
_LAST_PROCESSES_SECONDS = 10


class ServerError(Exception):
    """The server cannot be made, started or stopped; the message says why and what would help."""


@dataclass(frozen=True)
class Server:
    """The description of a server, which may be running or not.

    The superuser `user` is made with the data directory. With a `password` every connection needs
    it; without one, everybody on this machine is let in. `host` is an address of the loopback
    interface. `options` are names and values of postgresql.conf.
    """

    programs: Programs
    data_directory: Path
    log_path: Path
    port: int
    user: str = "postgres"
    password: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    options: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str) -> str:
        """Return the libpq URL of a database, whether it exists or not."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        server = address(self.host, self.port)
        return f"postgresql://{quote(self.user, safe='')}{password}@{server}/{database}"

    def prepare(self) -> None:
        """Make the data directory if there is none, and see that nobody else uses it.

        Raises:
            ServerError: It holds something else, or another server runs on it.
        """
        if not self.data_directory.exists():
            self._initialise()
        version_path = self.data_directory / "PG_VERSION"
        if not version_path.exists():
            raise ServerError(
                f"{self.data_directory} is no PostgreSQL data directory: move it away"
            )
        version = version_path.read_text(encoding="ascii").strip()
        if version != _MAJOR_VERSION:
            raise ServerError(
                f"{self.data_directory} was made by PostgreSQL {version}, and this is"
                f" {_MAJOR_VERSION}: move it away, or run the PostgreSQL that made it"
            )
        self._clear_stale_lock()

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground; SIGINT stops it fast."""
        arguments = ["-D", str(self.data_directory), "-p", str(self.port)]
        options = {"listen_addresses": self.host, "unix_socket_directories": "", **self.options}
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        return self.programs.command("postgres", *arguments)

    def is_ready(self, process_id: int) -> bool:
        """Return whether the server that runs as `process_id` accepts connections."""
        lines = self._read_lock()
        # The file of an earlier server can say "ready" as well, under its own process id.
        return len(lines) > 1 and lines[0] == str(process_id) and lines[-1].strip() == "ready"

    def start(self, timeout_seconds: float = 30) -> Process:
        """Start the server and wait until it accepts connections; call it from the main thread.

        Raises:
            ServerError: It ended or was not ready in time; the end of its log is in the message.
        """
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready(process.pid):
            if process.poll() is not None:
                raise ServerError(f"PostgreSQL did not start:\n{self._read_log_tail()}")
            if time.monotonic() > deadline:
                stop(process)
                raise ServerError(f"PostgreSQL was not ready in time:\n{self._read_log_tail()}")
            time.sleep(_POLL_SECONDS)
        return process

    def _initialise(self) -> None:
        # Made beside its place and then moved: what an interrupted run leaves is never taken for a
        # database.
        unfinished = self.data_directory.with_name(self.data_directory.name + ".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700, parents=True)
        self.programs.give(unfinished)
        password_path = unfinished.with_suffix(".password")
        password_path.touch(mode=0o600)
        password_path.write_text(self.password or "-", encoding="utf-8")
        self.programs.give(password_path)
        arguments = [
            "-D",
            str(unfinished),
            "-U",
            self.user,
            "--pwfile",
            str(password_path),
            *_LOCALE,
        ]
        arguments += ["--auth", "scram-sha-256" if self.password else "trust"]
        fsync = self.options.get("fsync", "on")
        if fsync == "off":
            arguments.append("--no-sync")
        try:
            self._run("initdb", *arguments)
        finally:
            password_path.unlink()
        single = ("--single", "-D", str(unfinished), "-c", "exit_on_error=on")
        self._run("postgres", *single, "-c", f"fsync={fsync}", "template1", statement=_REVOKE)
        unfinished.rename(self.data_directory)

    def _run(self, program: str, *arguments: str, statement: bytes = b"") -> None:
        """Run a program to its end.

        Raises:
            ServerError: It failed; its output is in the message.
        """
        # A session of its own, here and in `start`: Ctrl-C is for who runs this to act on.
        result = subprocess.run(
            self.programs.command(program, *arguments),
            input=statement,
            capture_output=True,
            check=False,
            start_new_session=True,
        )
        if result.returncode != 0:
            output = (result.stdout + result.stderr).decode(errors="replace").strip()
            raise ServerError(f"{program} failed with status {result.returncode}:\n{output}")

    def _clear_stale_lock(self) -> None:
        """Remove what a killed server left, for its process id may be somebody else's by now."""
        lines = self._read_lock()
        if not lines:
            return
        deadline = time.monotonic() + _LAST_PROCESSES_SECONDS
        while users := find_processes_in(self.data_directory):
            # When only its first process was killed, the others see it and end.
            if int(lines[0]) not in users and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            raise ServerError(
                f"PostgreSQL already runs on {self.data_directory} as process {lines[0]}:"
                f" stop it first, with kill -INT {lines[0]}"
            )
        (self.data_directory / "postmaster.pid").unlink(missing_ok=True)

    def _read_lock(self) -> list[str]:
        try:
            return (self.data_directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _read_log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


def stop(process: Process, timeout_seconds: float = 30) -> None:
    """Stop a server fast, that is, without waiting for its clients, and wait for its end.

    Raises:
        ServerError: It did not end in time and was killed; the data will be recovered at the next
        start.
    """
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired as timeout:
        process.kill()
        process.wait()
        raise ServerError(f"PostgreSQL did not stop within {timeout_seconds:g} s") from timeout


def find_processes_in(directory: Path) -> list[int]:
    """Return the ids of the processes whose working directory this is; each one of a server's is.

    A server whose first process was killed may have others that still write. Without /proc nothing
    is found, and PostgreSQL's own check, which is stricter, has to do.
    """
    directory = directory.resolve()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve(strict=True) == directory:
                found.append(int(entry.name))
        except OSError:  # The process has ended, or belongs to somebody else.
            continue
    return sorted(found)
