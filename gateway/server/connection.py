"""One HTTP/1.1 connection: what it waits for, for how long, and how it ends.

A connection serves one request after the other. Requests that a client sends ahead stay unparsed in
the buffer of one read, and nothing more is read until their turn (RFC 9112 section 9.3.2). So the
responses are in order, and the server does not read from a client that does not read itself.

    NEW -> HEAD -> SERVING -> WAITING -> HEAD ...     requests, one at a time
    any -> LINGERING -> CLOSED                        after the last response, or a refusal
"""

import asyncio
import contextvars
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from chassis import log
from gateway.http.asgi import Headers
from gateway.http.deadline import Deadline
from gateway.http.problems import Problem, unavailable
from gateway.server.admission import LAST_REFUSAL, REFUSAL, Admission, AdmissionLimits
from gateway.server.cycle import Cycle
from gateway.server.limits import BODY_BUFFER_BYTES, WRITE_BUFFER_BYTES, ConnectionLimits
from gateway.server.parser import Head, RequestParser
from gateway.server.receive_buffer import ReceiveBuffer
from gateway.server.response import format_problem
from gateway.server.scope import make_scope
from gateway.server.sockets import address_of, limit_unsent
from gateway.server.state import IDLE, State

_LOG = log.logger()


class Connection(asyncio.Protocol):
    """A connection of uvicorn's server, in place of uvicorn's own protocol."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: ConnectionLimits | None = None,
        admission: Admission | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._limits = limits or ConnectionLimits()
        self._admission = admission or Admission(AdmissionLimits())
        self._state = State.NEW
        self._deadline = Deadline(self._loop, self._time_out)
        self._parser = RequestParser()
        self._transport: asyncio.Transport
        self._cycle: Cycle | None = None
        self._received = ReceiveBuffer()
        self._lingered_bytes = 0
        self._writable: asyncio.Event | None = None
        """Set when the client has read enough; None while no writer has to wait."""
        self._stopping = False
        """The next response is the last one: the server stops, or has too many connections."""

    # What the event loop calls.

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Wait for the first request, or refuse a connection beyond the limit."""
        self._transport = transport
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self._addresses = (address_of(server), address_of(client))
        peer, _ = self._addresses[1] or ("", 0)
        self._client = self._admission.client_of(peer)
        self._expiry = self._loop.time() + self._limits.max_age_seconds
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        limit_unsent(transport.get_extra_info("socket"))
        self._enter(State.NEW)
        room = len(self._server.connections) < self._limits.max_connections
        if room and self._admission.open(self._client):
            self._server.connections.add(self)  # type: ignore[arg-type]
        else:
            self._stopping = True
            detail = "The server has reached its limit of connections."
            self._refuse(unavailable(detail, "TOO_MANY_CONNECTIONS", retry_seconds=5))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything, and wake writers that wait for the client."""
        self._state = State.CLOSED
        self._received.data = b""
        self._parser.close()
        if self in self._server.connections:
            self._server.connections.remove(self)
            self._admission.close(self._client)
        self.resume_writing()
        self._deadline.close()
        if self._cycle is not None:
            self._cycle.disconnect()

    def data_received(self, data: bytes) -> None:
        """Parse the current request, and buffer the rest; discard what comes after the last one."""
        if self._state in IDLE and self._admission.refuses_unread(self._client, data):
            self._shed_unread(data)
        elif self._state is State.LINGERING:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > self._limits.linger_bytes:
                self._transport.abort()
        else:
            self._received.add(data)
            self.advance()

    def eof_received(self) -> None:
        """Treat a half-closed connection as a disconnect; asyncio closes it on None."""
        if self._cycle is not None:
            self._cycle.disconnect()

    def pause_writing(self) -> None:
        """Make writers wait; the client has `write_seconds` to read what is buffered."""
        self._writable = asyncio.Event()
        self._deadline.set(self._limits.write_seconds)

    def resume_writing(self) -> None:
        """Let writers continue."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None
            self._deadline.set(self._state_seconds())

    # What uvicorn's server calls.

    def shutdown(self) -> None:
        """Take one more request at most, if it begins soon: a client may have sent it already.

        Closed at once, its connection would end without a response, and a client may not repeat
        such a request unless it is idempotent (RFC 9112 section 9.3.1).
        """
        self._stopping = True
        # It has less time now, and one that has sent nothing yet need not be told of it.
        self._enter(State.WAITING if self._state in IDLE else self._state)

    # What the cycle calls.

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written."""
        if self._writable is not None:
            await self._writable.wait()

    def advance(self) -> None:
        """Parse as much as the current request allows, and pause or resume reading."""
        try:
            if self._received.data and self._state in (*IDLE, State.HEAD):
                self._take_head()
            if self._received.data and self._state is State.SERVING:
                self._take_body()
        except Problem as problem:
            self._refuse(problem)
            return
        is_full = self._cycle is not None and self._cycle.is_full
        if self._state is State.SERVING and (self._received.data or is_full):
            self._transport.pause_reading()
            if not is_full and not self._parser.complete:
                # Let other connections run between two pieces of a body.
                self._loop.call_soon(self.advance)
        else:
            self._transport.resume_reading()

    def may_stay_open(self) -> bool:
        """Return whether the connection can take another request after this one."""
        return not self._stopping and self._loop.time() < self._expiry

    def default_headers(self) -> Headers:
        """Return the headers of every response: the date."""
        return self._server.default_headers

    def end_cycle(self, cycle: Cycle) -> None:
        """Take the next request after a complete response, or close."""
        self._server.total_requests += 1
        self._cycle = None
        if cycle.stays_open and cycle.body_complete and self._state is State.SERVING:
            self._enter(State.WAITING)
            self.advance()
        else:
            self._linger()

    def abort_response(self) -> None:
        """Close in the middle of a response, whose framing shows that it is incomplete."""
        self._cycle = None
        if self._writable is not None:
            self._transport.abort()
        else:
            self._linger()

    def _take_head(self) -> None:
        head = self._received.take_head()
        if head is not None:
            self._serve(self._parser.read_head(head))
        elif self._received.has_begun_head and self._state in IDLE:
            self._enter(State.HEAD)

    def _take_body(self) -> None:
        cycle = self._cycle
        if cycle is None or cycle.body_complete or cycle.is_full:
            return
        content, taken = self._parser.read_body(self._received.data[:BODY_BUFFER_BYTES])
        self._received.take(taken)
        cycle.take_body(content, complete=self._parser.complete)

    def _serve(self, head: Head) -> None:
        exempt = self._admission.is_exempt(head.path)
        if not exempt and self._admission.refuses(self._client):
            self._shed(head)
            return
        self._enter(State.SERVING)
        self._cycle = cycle = Cycle(head, self, None if exempt else self._admission)
        if not exempt:
            self._admission.begin(cycle, self._client)
        scope = make_scope(head, self._config, self._app_state, self._addresses, cycle.leave)
        run = cycle.run(self._config.loaded_app, scope)
        task = self._loop.create_task(run, context=contextvars.Context())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    # How requests are refused while there is too much work.

    def _shed_unread(self, data: bytes) -> None:
        """Refuse a request that is nothing but a head, or parse it if that is not all there is."""
        if self._received.data or self._writable is not None or not self.may_stay_open():
            self._received.add(data)
            self.advance()
            return
        self._enter(State.WAITING)
        self._admission.note_refusal()
        self._transport.write(REFUSAL)

    def _shed(self, head: Head) -> None:
        """Refuse a request; the connection stays open if the whole request is there already."""
        self._admission.note_refusal()
        if head.has_body and self._received.data:
            _, taken = self._parser.read_body(self._received.data[:BODY_BUFFER_BYTES])
            self._received.take(taken)
        whole = self._parser.complete and not self._received.data
        if whole and head.keeps_alive and self._writable is None and self.may_stay_open():
            self.write(REFUSAL)
            self._enter(State.WAITING)
        else:
            self.write(LAST_REFUSAL)
            self._linger()

    # How a connection ends.

    def _refuse(self, problem: Problem) -> None:
        """Respond with a problem to what cannot be served, and close.

        If a response has begun already, the connection is aborted.
        """
        _LOG.info("request_refused", status=problem.status, reason=problem.reason)
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnect()
        if cycle is not None and cycle.response_begun:
            self._transport.abort()
        else:
            self.write(format_problem(problem))
            self._linger()

    def _linger(self) -> None:
        """Close for writing, and discard what arrives until the client closes, within limits.

        Closing with unread data would reset the connection, and the client might lose a response
        that it has not read yet (RFC 9112 section 9.6).
        """
        if self._state in (State.LINGERING, State.CLOSED) or self._transport.is_closing():
            return
        self._received.data = b""
        self._enter(State.LINGERING)
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _end_lingering(self) -> None:
        """Close; under TLS the client is told, and has a while to take what is left."""
        if self._transport.can_write_eof():
            self._transport.abort()
        else:
            self._transport.close()

    def _enter(self, state: State) -> None:
        self._state = state
        if self._writable is None:
            self._deadline.set(self._state_seconds())

    def _state_seconds(self) -> float:
        """Return how long the connection may stay in its state."""
        # TLS cannot be closed for writing alone: the client waits for the end of the lingering.
        brief = self._stopping or not self._transport.can_write_eof()
        left_seconds = self._expiry - self._loop.time()
        return self._limits.seconds(
            self._state, left_seconds, stopping=self._stopping, lingers_briefly=brief
        )

    def _time_out(self) -> None:
        if self._writable is not None:
            self._transport.abort()
        elif self._state is State.LINGERING:
            self._end_lingering()
        elif self._state in (State.NEW, State.HEAD):
            detail = "Request line and headers did not arrive in time."
            self._refuse(Problem(408, "DEADLINE_EXCEEDED", detail, "SLOW_HEADERS"))
        else:
            self._linger()
