"""Endless input of every kind that a connection reads, and a client that sends it.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import select
import socket
import time
from dataclasses import dataclass

PIECE_BYTES = 65_536
BLOCKED_SECONDS = 1.0
"""If the server reads nothing for this time, the next connection is opened."""

_GET = b"GET /v1/probes/7 HTTP/1.1\r\nHost: a\r\n\r\n"
_POST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
_SIZED = _POST + b"Content-Length: 1000000000000\r\n\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_UPGRADE = _POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1000000000000\r\n\r\n"


@dataclass(frozen=True)
class EndlessInput:
    """The first bytes on a connection, and the bytes that are repeated after them."""

    name: str
    opening: bytes
    again: bytes
    reads: bool = False
    """Whether the client reads responses meanwhile."""


def _repeat(unit: bytes) -> bytes:
    return unit * (PIECE_BYTES // len(unit))


ENDLESS_INPUTS = [
    EndlessInput("request line", b"GET /", _repeat(b"x")),
    EndlessInput("header", b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", _repeat(b"x")),
    EndlessInput("headers", b"GET / HTTP/1.1\r\nHost: a\r\n", _repeat(b"X-A: b\r\n")),
    EndlessInput("empty lines", b"", _repeat(b"\r\n")),
    EndlessInput("chunk size", _CHUNKED % b"/v1/probes", _repeat(b"0")),
    EndlessInput("chunk extension", _CHUNKED % b"/v1/probes" + b"1;", _repeat(b"x")),
    EndlessInput(
        "chunk extensions", _CHUNKED % b"/v1/probes", _repeat(b"1;a=%s\r\n \r\n" % (b"x" * 999))
    ),
    EndlessInput("trailer", _CHUNKED % b"/v1/probes" + b"0\r\nX-Long: ", _repeat(b"x")),
    EndlessInput("trailers", _CHUNKED % b"/v1/probes" + b"0\r\n", _repeat(b"X-A: b\r\n")),
    EndlessInput("body", _SIZED % b"/v1/probes", _repeat(b" ")),
    EndlessInput("chunks of one byte", _CHUNKED % b"/v1/probes", _repeat(b"1\r\n \r\n")),
    EndlessInput("body of an upgrade", _UPGRADE % b"/v1/probes", _repeat(b" ")),
    EndlessInput("body to a 404", _SIZED % b"/v1/none", _repeat(b" ")),
    EndlessInput("chunks to a 404", _CHUNKED % b"/v1/none", _repeat(b"1\r\n \r\n")),
    EndlessInput(
        "line of an upload",
        _CHUNKED.replace(b"json", b"x-ndjson") % b"/v1/probes:chat",
        _repeat(b"1\r\n \r\n"),
    ),
    EndlessInput("pipeline", b"", _repeat(_GET)),
    EndlessInput("pipeline that is read", b"", _repeat(_GET), reads=True),
]


@dataclass
class Taken:
    """How much a server has read: bytes, connections and seconds in total."""

    size: int = 0
    connections: int = 0
    seconds: float = 0.0

    @property
    def seconds_each(self) -> float:
        """How long a connection was read, on average."""
        return self.seconds / max(1, self.connections)


def send(
    kind: EndlessInput, port: int, size: int, seconds: float, at_least_seconds: float = 0.0
) -> Taken:
    """Send `size` bytes, on as many connections as that takes, in at most `seconds`.

    More are sent until `at_least_seconds` have passed.
    """
    taken = Taken()
    start = time.monotonic()
    while taken.seconds < (seconds if taken.size < size else at_least_seconds):
        taken.connections += 1
        taken.size += _send_on_one(kind, port, size, start + seconds)
        taken.seconds = time.monotonic() - start
    return taken


def _send_on_one(kind: EndlessInput, port: int, size: int, end: float) -> int:
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(kind.opening)
        connection.setblocking(False)
        try:
            while sent < size and time.monotonic() < end:
                at = sent % len(kind.again)
                sent += _send_when_possible(
                    connection, kind.again[at : at + size - sent], kind.reads
                )
        except (ConnectionError, TimeoutError):
            pass  # It takes no more: that is what is measured.
    return sent


def _send_when_possible(connection: socket.socket, data: bytes, reads: bool) -> int:
    sources = [connection] if reads else []
    readable, writable, _ = select.select(sources, [connection], [], BLOCKED_SECONDS)
    if readable and not connection.recv(PIECE_BYTES):
        raise ConnectionResetError
    if not readable and not writable:
        raise TimeoutError
    return connection.send(data) if writable else 0
