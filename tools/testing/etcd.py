"""etcd for tests: the one of the system, as a single server with TLS.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
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

    def forget(self) -> None:
        """Delete everything that the server has stored, while it does not run."""
        shutil.rmtree(self._directory)


async def _responds(client: Etcd) -> bool:
    try:
        await client.read_keys("ready")
    except errors.Unavailable:
        return False
    return True


def _find_addresses() -> tuple[str, str]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        one, two = (each.getsockname()[1] for each in (first, second))
    return f"127.0.0.1:{one}", f"127.0.0.1:{two}"
