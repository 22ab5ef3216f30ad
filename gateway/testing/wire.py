"""An HTTP/1.1 client that reads a response while it still sends, and can stop halfway.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0


class Wire:
    """One connection with one request on it, whose body is chunked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines = b""

    async def send_head(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Send the request line and the headers."""
        lines = [f"{method} {path} HTTP/1.1", "Host: gateway"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.send_raw("\r\n".join([*lines, "", ""]).encode())

    async def send_chunk(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self.send_raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def send_record(self, record: object) -> None:
        """Send a record of NDJSON as a piece of the body."""
        await self.send_chunk(json.dumps(record).encode() + b"\n")

    async def send_end(self) -> None:
        """Send the end of the body."""
        await self.send_raw(b"0\r\n\r\n")

    async def send_raw(self, data: bytes) -> None:
        """Send bytes, and wait until the system has taken most of them."""
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), TIMEOUT_SECONDS)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers, names in lower case."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
        first, *rest = head.decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in rest)
        return int(first.split()[1]), headers

    async def read_raw(self, size: int) -> bytes:
        """Return exactly `size` bytes.

        Raises:
            asyncio.IncompleteReadError: the connection was cut.
        """
        return await asyncio.wait_for(self._reader.readexactly(size), TIMEOUT_SECONDS)

    async def read_chunk(self) -> bytes:
        """Return the next piece of the body; empty at its end.

        Raises:
            asyncio.IncompleteReadError: the connection was cut.
        """
        async with asyncio.timeout(TIMEOUT_SECONDS):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def read_record(self) -> Any:
        """Return the next record of NDJSON, or None at the end of the body."""
        while b"\n" not in self._lines:
            chunk = await self.read_chunk()
            if not chunk:
                return None
            self._lines += chunk
        line, _, self._lines = self._lines.partition(b"\n")
        return json.loads(line)

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a response with a Content-Length or no body."""
        status, headers = await self.read_head()
        length = int(headers.get("content-length", "0"))
        body = await asyncio.wait_for(self._reader.readexactly(length), TIMEOUT_SECONDS)
        return status, headers, body

    async def read_end(self) -> bytes:
        """Return everything until the server closes."""
        return await asyncio.wait_for(self._reader.read(), TIMEOUT_SECONDS)

    def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def connect(url: str, local_address: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Open a connection to a server, from any address of 127.0.0.0/8."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port, local_addr=(local_address, 0)
    )
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
