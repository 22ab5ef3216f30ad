"""etcd for tests: the one of the system, as a single server with TLS.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import random
import shutil
import signal
import socket
from pathlib import Path

from chassis import errors
from chassis.etcd import Etcd
from chassis.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from tools.postgres.tether import tether

_PROGRAM = "etcd"
_START_SECONDS = 20.0
_POLL_SECONDS = 0.05
# Below those that the system gives to clients, one of whom would take it while the server is down.
_PORTS = range(10_000, 20_000)


class EtcdMissingError(Exception):
    """There is no etcd on PATH; the message says how to install it."""


class EtcdServer:
    """A server on a port of its own, which may be killed and started again.

    `tls_directory` has its certificate, and `directory` is for what it stores.
    """

    def __init__(self, tls_directory: Path, directory: Path) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise EtcdMissingError(
                f"{_PROGRAM} is not on PATH. Install it, on Debian by: apt-get install etcd-server"
            )
        self.target, peer = _find_addresses()
        self._directory = directory
        self._command = [
            program,
            f"--data-dir={directory}",
            f"--listen-client-urls=https://{self.target}",
            f"--advertise-client-urls=https://{self.target}",
            f"--listen-peer-urls=http://{peer}",
            f"--initial-advertise-peer-urls=http://{peer}",
            f"--initial-cluster=default=http://{peer}",
            f"--trusted-ca-file={tls_directory / CA_FILE}",
            f"--cert-file={tls_directory / CERTIFICATE_FILE}",
            f"--key-file={tls_directory / KEY_FILE}",
            "--client-cert-auth",
            "--logger=zap",
            "--log-level=error",
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, client: Etcd) -> None:
        """Start, and return when the client gets a response."""
        self._process = await asyncio.create_subprocess_exec(*tether(self._command, signal.SIGKILL))
        async with asyncio.timeout(_START_SECONDS):
            while not await _responds(client):
                if self._process.returncode is not None:
                    raise ChildProcessError(f"{_PROGRAM} ended at its start")
                await asyncio.sleep(_POLL_SECONDS)

    async def kill(self) -> None:
        """End the server at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Have the server do nothing until `thaw`, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        self._signal(signal.SIGCONT)

    def forget(self) -> None:
        """Delete everything that the server has stored, while it does not run."""
        shutil.rmtree(self._directory)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise ProcessLookupError(f"{_PROGRAM} does not run")
        self._process.send_signal(number)


async def _responds(client: Etcd) -> bool:
    try:
        await client.read_keys("ready")
    except errors.Unavailable:
        return False
    return True


def _find_addresses() -> tuple[str, str]:
    free = filter(_is_free, random.sample(_PORTS, k=len(_PORTS)))
    return f"127.0.0.1:{next(free)}", f"127.0.0.1:{next(free)}"


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
