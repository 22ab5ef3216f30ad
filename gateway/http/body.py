"""The body of an HTTP request over ASGI: whole and bounded, in chunks, or line by line.

Falcon's own stream ends alike when the client disconnects and when the body is complete. Here a
disconnect is an error, so that an incomplete upload is never mistaken for a complete one.
"""

import asyncio
from collections.abc import AsyncIterator

from gateway.http.asgi import Receive
from gateway.http.problems import Problem

MAX_BODY_BYTES = 1024 * 1024
"""The limit of a body that is read whole, and of each line of one that is streamed."""

READ_TIMEOUT_SECONDS = 10.0
"""How long a body that is read whole, and so is short, may take in total."""


class ClientGoneError(Exception):
    """The client closed the connection."""


class RequestBody:
    """Reads one body, once."""

    def __init__(self, receive: Receive, content_length: str | None, chunked: bool) -> None:
        self._receive = receive
        self._length = int(content_length) if content_length else 0
        self.expected = chunked or self._length > 0
        """Whether the client announced a body."""
        self._more = self.expected

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            Problem: it is longer than MAX_BODY_BYTES, or takes too long.
            ClientGoneError: the client disconnected.
        """
        if self._length > MAX_BODY_BYTES:
            raise _too_large("body")
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                return await self._read()
        except TimeoutError as error:
            headers = {"Connection": "close"}
            detail = f"The body did not arrive within {READ_TIMEOUT_SECONDS:g} seconds."
            raise Problem(408, "DEADLINE_EXCEEDED", detail, "SLOW_BODY", headers=headers) from error

    async def _read(self) -> bytes:
        chunks = []
        size = 0
        while self._more:
            chunk = await self._next()
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise _too_large("body")
            chunks.append(chunk)
        return b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks as they arrive; none is empty.

        Raises:
            ClientGoneError: the client disconnected before the end.
        """
        while self._more:
            chunk = await self._next()
            if chunk:
                yield chunk

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of the body as they arrive; empty ones are skipped.

        Raises:
            Problem: a line is longer than MAX_BODY_BYTES.
            ClientGoneError: the client disconnected before the end.
        """
        line = bytearray()
        async for chunk in self.chunks():
            first, *others = chunk.split(b"\n")
            _extend(line, first)
            for begun in others:
                if line.strip():
                    yield bytes(line)
                line.clear()
                _extend(line, begun)
        if line.strip():
            yield bytes(line)

    async def wait_for_disconnect(self) -> None:
        """Return when the client closes the connection; what it still sends is discarded."""
        event = await self._receive()
        while event["type"] != "http.disconnect":
            event = await self._receive()

    async def _next(self) -> bytes:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        self._more = event.get("more_body", False)
        chunk: bytes = event.get("body", b"")
        return chunk


def _extend(line: bytearray, piece: bytes) -> None:
    if len(line) + len(piece) > MAX_BODY_BYTES:
        raise _too_large("line")
    line += piece


def _too_large(what: str) -> Problem:
    """Return the problem of a body or a line that exceeds MAX_BODY_BYTES."""
    detail = f"The {what} is larger than {MAX_BODY_BYTES} bytes."
    return Problem(413, "INVALID_ARGUMENT", detail, "TOO_LARGE")
