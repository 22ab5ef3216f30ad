"""HTTP/1.1 as uvicorn speaks it, with bounds on what a client may make a connection hold.

Uvicorn on httptools bounds neither the size nor the time of what comes before a body, and answers
malformed requests in plain text. What it sends may wait in large buffers, for as long as TCP waits
for a machine that has gone.
"""

import asyncio
import socket
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import PROBLEM_JSON, Problem

MAX_HEAD_BYTES = 32 * 1024
"""The most that request line and headers may have."""

HEAD_TIMEOUT_SECONDS = 15.0
"""How long request line and headers may take to come."""

WRITE_BUFFER_BYTES = 16 * 1024
"""How much may wait in the process before what produces it is held back."""

UNSENT_BYTES = 64 * 1024
"""How much of that the system takes beyond what is on its way: by itself it takes megabytes."""

UNACKNOWLEDGED_SECONDS = 120
"""How long a client may take nothing of what waits for it, until it counts as gone. A few bytes
now and then, such as heartbeats, never fill a buffer: this notices that nobody takes them."""

_MALFORMED = Problem(400, "INVALID_ARGUMENT", "The HTTP request is malformed.", "INVALID_HTTP")
_TOO_LARGE = Problem(
    status=431,
    code="INVALID_ARGUMENT",
    detail=f"Request line and headers are larger than {MAX_HEAD_BYTES} bytes.",
    reason="HEADERS_TOO_LARGE",
)
_TOO_SLOW = Problem(
    408, "DEADLINE_EXCEEDED", "Request line and headers did not come in time.", "SLOW_HEADERS"
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    _unfinished_bytes = 0
    _in_head = False
    _refusal = _MALFORMED
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Bound what can wait to be sent, and begin to wait for the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        _bound_unsent(transport.get_extra_info("socket"))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a header that does not end counts too."""
        super().data_received(data)
        self._unfinished_bytes = self._unfinished_bytes + len(data) if self._in_head else 0
        if self._unfinished_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_bytes = 0
        self._in_head = True
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to serve the request."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that never reached the application, and close the connection."""
        del msg
        body = self._refusal.as_json()
        status = HTTPStatus(self._refusal.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = _TOO_LARGE
            # Httptools turns this into the error on which uvicorn calls `send_400_response`.
            raise ValueError(self._refusal.detail)

    def _refuse(self, problem: Problem) -> None:
        self._refusal = problem
        self.send_400_response("")

    def _expect_head(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._refuse, _TOO_SLOW)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _bound_unsent(connection: socket.socket) -> None:
    """Set the options of tcp(7), where the system has them."""
    for name, value in (
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1_000),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
