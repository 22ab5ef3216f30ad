"""One request and its response between a connection and the ASGI application."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from chassis import log
from gateway.http.asgi import Application, Headers
from gateway.http.problems import Problem, internal, unavailable
from gateway.server.admission import Admission
from gateway.server.limits import BODY_BUFFER_BYTES
from gateway.server.parser import Head
from gateway.server.response import CONTINUE, Response, format_problem

_LOG = log.logger()


class ClientConnection(Protocol):
    """The connection of a cycle."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""

    def advance(self) -> None:
        """Read more of the body."""

    def may_stay_open(self) -> bool:
        """Return whether the connection can take another request after this one."""

    def default_headers(self) -> Headers:
        """Return the headers of every response."""

    def end_cycle(self, cycle: "Cycle") -> None:
        """Continue after a complete response."""

    def abort_response(self) -> None:
        """Close in the middle of a response."""


class Cycle:
    """Calls the application for one request; `receive` and `send` are the ASGI callables."""

    def __init__(
        self, head: Head, connection: ClientConnection, admission: Admission | None = None
    ) -> None:
        """Take the head of a request, and what counts it, if anything does."""
        self._admission = admission
        self.stays_open = head.keeps_alive
        """Whether the connection stays open after this response, as far as known."""
        self.body_complete = not head.has_body
        self._head = head
        self._connection = connection
        self._gone = False
        """The client has disconnected, or was sent a problem in place of a response."""
        self._continue_wanted = head.expects_continue
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._end_received = False
        self._wakeup: asyncio.Event | None = None
        self._response: Response | None = None
        self.response_begun = False

    @property
    def is_full(self) -> bool:
        """Whether the application must take something before more of the body is read."""
        return self._buffered >= BODY_BUFFER_BYTES

    async def run(self, application: Application, scope: Mapping[str, Any]) -> None:
        """Serve the request; afterwards the connection continues or ends in any case."""
        try:
            await application(scope, self.receive, self.send)
        except Exception:
            _LOG.exception("application_failed", path=scope["path"])
        except asyncio.CancelledError:
            # uvicorn cancels it when the time for a graceful shutdown is over.
            detail = "The server is stopping. Whether the request took effect is unknown."
            self._end(unavailable(detail, "SERVER_STOPPING", retry_seconds=1))
            raise
        finally:
            self._end(internal())
            self.leave()

    def leave(self) -> None:
        """Let the request count no longer: it is done, or has become a stream."""
        if self._admission is not None:
            self._admission.end(self)

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI event: a piece of the body, or a disconnect."""
        if self._continue_wanted and not self._gone:
            self._continue_wanted = False
            self._connection.write(CONTINUE)
        while not (self._over or self._chunks or (self.body_complete and not self._end_received)):
            self._wakeup = self._wakeup or asyncio.Event()
            self._wakeup.clear()
            await self._wakeup.wait()
        if self._over:
            return {"type": "http.disconnect"}
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        self._end_received = self.body_complete
        self._connection.advance()
        return {"type": "http.request", "body": body, "more_body": not self._end_received}

    async def send(self, event: Mapping[str, Any]) -> None:
        """Send an ASGI event when the client has taken most of what was sent before.

        The head is sent with the first piece of the body, as ASGI allows.
        """
        await self._connection.drain()
        if self._gone:
            return
        if self._response is None:
            if event["type"] != "http.response.start":
                raise RuntimeError(f"{event['type']} before the start of a response")
            self._response = Response(event, self._head.method, self._head.http_version)
        elif event["type"] != "http.response.body" or self._response.complete:
            raise RuntimeError(f"{event['type']} within a response, or after it")
        else:
            self._send_body(event.get("body", b""), more=event.get("more_body", False))

    def take_body(self, chunk: bytes, *, complete: bool) -> None:
        """Buffer a piece of the body for the application."""
        self._continue_wanted = False
        if chunk:
            self._chunks.append(chunk)
            self._buffered += len(chunk)
        self.body_complete = complete
        self._wake()

    def disconnect(self) -> None:
        """Report to the application that the client has disconnected."""
        self._gone = True
        self._wake()

    @property
    def _over(self) -> bool:
        return self._gone or (self._response is not None and self._response.complete)

    def _send_body(self, content: bytes, *, more: bool) -> None:
        response = self._response
        assert response is not None  # noqa: S101 - `send` has set it.
        head = b"" if self.response_begun else self._head_of(response, more=more)
        data = head + response.body(content, more=more)
        self.response_begun = True
        self._continue_wanted = False
        if data:
            self._connection.write(data)
        if not more:
            self._wake()
            self._connection.end_cycle(self)

    def _head_of(self, response: Response, *, more: bool) -> bytes:
        """Return the head, which states whether the connection stays open.

        A response that is complete before its request closes the connection. For a stream that is
        not known yet when its head is sent.
        """
        unread = not self.body_complete and not more
        if response.closes or unread or not self._connection.may_stay_open():
            self.stays_open = False
        return response.head(self._connection.default_headers(), closes=not self.stays_open)

    def _end(self, problem: Problem) -> None:
        """Send a problem if there was no response, or abort an incomplete response."""
        if self._over:
            return
        if self.response_begun:
            self._connection.abort_response()
        else:
            self._connection.write(format_problem(problem))
            self.stays_open = False
            self._gone = True
            self._connection.end_cycle(self)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()
