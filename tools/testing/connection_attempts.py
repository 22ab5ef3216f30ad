"""Who goes on connecting to a server that is gone."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Attempts:
    """The connections to a port that refuses to serve."""

    def __init__(self) -> None:
        self.port = 0
        self.times: list[float] = []
        """When they were made, by `time.monotonic`."""

    async def wait_for_more(self, count: int = 5) -> None:
        """Wait for so many more; the caller limits how long."""
        wanted = len(self.times) + count
        while len(self.times) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def refuse(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a connection, and close it."""
        self.times.append(time.monotonic())
        writer.close()


@asynccontextmanager
async def counting_attempts(host: str, port: int = 0) -> AsyncIterator[Attempts]:
    """Listen in the place of a server, by default on any port, and yield who connects."""
    attempts = Attempts()
    server = await asyncio.start_server(attempts.refuse, host, port, family=socket.AF_INET)
    async with server:
        attempts.port = server.sockets[0].getsockname()[1]
        yield attempts
