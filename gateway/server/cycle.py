"""One request and its response between a connection and the ASGI application."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from chassis import log
from gateway.http.problems import Problem, internal
from gateway.server.limits import BODY_BUFFER_BYTES, stopping
from gateway.server.parser import Head, Headers
from gateway.server.response import CONTINUE, Response, format_problem

_LOG = log.logger()

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Carrier(Protocol):
    """What a cycle needs of its connection."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""

    def read_on(self) -> None:
        """Hand on more of the body."""

    def may_stay_open(self) -> bool:
        """Say whether the connection can take another request after this one."""

    def default_headers(self) -> Headers:
        """Return the headers of every response."""

    def end_cycle(self, cycle: "Cycle") -> None:
        """Go on after a complete response."""

    def close_cut_off(self) -> None:
        """End the connection after what was sent of a response that stays incomplete."""


class Cycle:
    """Calls the application for one request, and is `receive` and `send` to it."""

    def __init__(self, head: Head, carrier: Carrier) -> None:
        self.stays_open = head.keeps_alive
        """Whether the connection stays open after this response, as far as is known."""
        self.body_complete = not head.has_body
        self._head = head
        self._carrier = carrier
        self._gone = False
        """The client has left, or got a problem in place of the application's response."""
        self._continue_wanted = head.expects_continue
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._end_received = False
        self._wakeup: asyncio.Event | None = None
        self._response: Response | None = None
        self.response_begun = False

    @property
    def is_full(self) -> bool:
        """Whether the application has to take something before more of the body is read."""
        return self._buffered >= BODY_BUFFER_BYTES

    async def run(self, application: Application, scope: Mapping[str, Any]) -> None:
        """Serve the request; the connection goes on or ends, whatever the application does."""
        try:
            await application(scope, self.receive, self.send)
        except Exception:
            _LOG.exception("application_failed", path=scope["path"])
        except asyncio.CancelledError:
            # By uvicorn, when the time for a graceful shutdown is over.
            self._end(stopping())
            raise
        finally:
            self._end(internal())

    async def receive(self) -> dict[str, Any]:
        """Return the next ASGI event: a piece of the body, or a disconnect."""
        if self._continue_wanted and not self._gone:
            self._continue_wanted = False
            self._carrier.write(CONTINUE)
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
        self._carrier.read_on()
        return {"type": "http.request", "body": body, "more_body": not self._end_received}

    async def send(self, event: Mapping[str, Any]) -> None:
        """Send an ASGI event, when the client has taken most of what was sent before.

        The head leaves together with the first piece of the body, as ASGI allows.
        """
        await self._carrier.drain()
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
        """Keep a piece of the body for the application."""
        self._continue_wanted = False
        if chunk:
            self._chunks.append(chunk)
            self._buffered += len(chunk)
        self.body_complete = complete
        self._wake()

    def disconnect(self) -> None:
        """Tell the application that the client has left."""
        self._gone = True
        self._wake()

    @property
    def _over(self) -> bool:
        return self._gone or (self._response is not None and self._response.complete)

    def _send_body(self, content: bytes, *, more: bool) -> None:
        response = self._response
        assert response is not None  # noqa: S101 - `send` has just made sure.
        head = b"" if self.response_begun else self._head_of(response, more=more)
        data = head + response.body(content, more=more)
        self.response_begun = True
        self._continue_wanted = False
        if data:
            self._carrier.write(data)
        if not more:
            self._wake()
            self._carrier.end_cycle(self)

    def _head_of(self, response: Response, *, more: bool) -> bytes:
        """Return the head, which says whether the connection stays open.

        A response that is complete before its request is closes the connection. Whether a stream
        will be is not known when its head is sent.
        """
        unread = not self.body_complete and not more
        if response.closes or unread or not self._carrier.may_stay_open():
            self.stays_open = False
        return response.head(self._carrier.default_headers(), closes=not self.stays_open)

    def _end(self, problem: Problem) -> None:
        """Send a problem if there was no response; cut one that is incomplete."""
        if self._over:
            return
        if self.response_begun:
            self._carrier.close_cut_off()
        else:
            self._carrier.write(format_problem(problem))
            self.stays_open = False
            self._gone = True
            self._carrier.end_cycle(self)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()
