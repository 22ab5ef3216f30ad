"""Streams through HTTP: answers as NDJSON while they come, uploads line by line, both at once.

Nothing is collected: the next answer is read when the last one has left, and the next line of an
upload when gRPC has taken the one before. A failure after the answer began is its last record.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from chassis import log
from gateway.errors import Problem, from_rpc_error, internal
from gateway.exchange import Exchange
from gateway.request_body import ClientGoneError


class CutOffError(Exception):
    """The connection must be cut: what was sent cannot be completed and cannot say why."""


class OpenStreams:
    """All streams that are open now, and how long streams may be."""

    def __init__(self, idle_seconds: float, drain_seconds: float) -> None:
        """End a stream on which nothing moves for `idle_seconds`.

        A stream that is still open `drain_seconds` after the server was told to stop is ended too.
        """
        self.idle_seconds = idle_seconds
        self._drain_seconds = drain_seconds
        self._relays: set[Relay] = set()
        self._draining = False

    def add(self, relay: "Relay") -> None:
        """Count a stream as open.

        Raises:
            Problem: the server is stopping.
        """
        if self._draining:
            raise _stopping()
        self._relays.add(relay)

    def remove(self, relay: "Relay") -> None:
        """Count a stream as closed."""
        self._relays.discard(relay)

    def drain(self) -> None:
        """Take no more of any upload, and give what is under way some time to end."""
        self._draining = True
        for relay in list(self._relays):
            relay.stop_upload()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._end_all)

    def _end_all(self) -> None:
        for relay in list(self._relays):
            relay.end(_stopping())


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one route's answers are written."""

    encode: Callable[[Message], bytes]
    records: bool
    """A problem can be written as one more record; of raw bytes it cannot."""


class Relay:
    """One streaming call between a client and a service, made in the task that serves the request.

    `start` waits for the first answer, so that a call that fails at once is an ordinary problem;
    then the relay is iterated for the pieces of the body. `close` ends it in any case.
    """

    def __init__(
        self,
        call: Any,
        exchange: Exchange,
        streams: OpenStreams,
        encoding: Encoding,
        requests: AsyncIterator[Message] | None = None,
    ) -> None:
        self._call = call
        self._exchange = exchange
        self._streams = streams
        self._encoding = encoding
        self._requests = requests
        self._answers_stream = hasattr(call, "read")
        self._problem: Problem | None = None
        self._first: Message | None = None
        self._owner = asyncio.current_task()
        self._client: asyncio.Task[None] | None = None
        self._stopped = False
        self._awaiting_line = False
        self._sending = False
        self._loop = asyncio.get_running_loop()
        self._last_move = self._loop.time()
        self._timer = self._loop.call_later(streams.idle_seconds, self._check_idle)

    async def start(self) -> Message | None:
        """Begin, and return the first answer, or None if there are none.

        Raises:
            Problem: the call failed before it answered.
        """
        try:
            self._begin()
            self._first = await self._read()
        except BaseException:
            await self.close()
            raise
        if self._first is None and self._problem is not None:
            await self.close()
            raise self._problem
        return self._first

    async def result(self) -> Message:
        """Begin, and return the one answer to a stream of requests.

        Raises:
            Problem: the call failed.
        """
        try:
            self._begin()
            answer: Message = await self._guard(self._call)
        finally:
            await self.close()
        return answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the encoded answers, and at last the problem if there is one."""
        message = self._first
        self._first = None
        try:
            while message is not None:
                piece = self._encode(message)
                self._sending = True
                yield piece
                self._sending = False
                self._touch()
                message = await self._read()
        except Problem as problem:
            self._problem = problem
        if self._problem is not None:
            self._exchange.code = self._problem.code
            if not self._encoding.records:
                raise CutOffError from self._problem
            yield self._problem.as_record()

    async def close(self) -> None:
        """End the call if it is not over, and everything that belongs to it."""
        self._streams.remove(self)
        self._timer.cancel()
        self._call.cancel()
        if self._client is not None:
            self._client.cancel()
            await asyncio.wait([self._client])

    def end(self, problem: Problem) -> None:
        """End the call with a problem; a client that does not take what is sent is cut off."""
        self._problem = self._problem or problem
        self._call.cancel()
        if self._sending and self._owner is not None:
            self._exchange.abandoned = True
            self._owner.cancel()

    def stop_upload(self) -> None:
        """Take no more of the upload; what was taken is still answered."""
        if self._requests is None or not self._answers_stream or self._stopped:
            return
        self._stopped = True
        self._problem = self._problem or _stopping()
        if self._awaiting_line and self._client is not None:
            self._client.cancel()

    def _begin(self) -> None:
        self._streams.add(self)
        self._client = self._loop.create_task(self._follow_client())

    async def _follow_client(self) -> None:
        """Pass the upload on, then wait for the client to leave."""
        try:
            if self._requests is not None:
                await self._pass_upload(self._requests)
            await self._exchange.body.wait_for_disconnect()
        except ClientGoneError:
            pass
        self._problem = self._problem or _client_gone()
        self._call.cancel()

    async def _pass_upload(self, requests: AsyncIterator[Message]) -> None:
        try:
            while (request := await self._next_request(requests)) is not None:
                await self._call.write(request)
                self._touch()
        except Problem as problem:
            self._problem = self._problem or problem
            if not self._answers_stream:
                # Half a stream must not be taken for all of it.
                self._call.cancel()
                return
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The service ended the call; reading tells why.
        self._stopped = True
        await self._call.done_writing()

    async def _next_request(self, requests: AsyncIterator[Message]) -> Message | None:
        if self._stopped:
            return None
        self._awaiting_line = True
        try:
            return await anext(requests, None)
        except asyncio.CancelledError:
            if self._stopped and not self._call.done():
                return None  # `stop_upload` only wanted the waiting to end.
            raise
        finally:
            self._awaiting_line = False

    async def _read(self) -> Message | None:
        message = await self._guard(self._call.read())
        self._touch()
        return None if message is grpc.aio.EOF else message

    async def _guard(self, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except grpc.aio.AioRpcError as error:
            problem = self._problem or from_rpc_error(error)
            self._exchange.note_failure(problem, error.details() or "")
            raise problem from error
        except asyncio.CancelledError:
            # grpc.aio reports a call that we cancelled in the same way as a cancelled task.
            if self._problem is None or self._exchange.abandoned:
                raise
            raise self._problem from None

    def _encode(self, message: Message) -> bytes:
        try:
            return self._encoding.encode(message)
        except (TypeError, ValueError) as error:
            log.logger().exception("answer_not_json", rpc=self._exchange.rpc)
            raise internal() from error

    def _touch(self) -> None:
        self._last_move = self._loop.time()

    def _check_idle(self) -> None:
        remaining = self._last_move + self._streams.idle_seconds - self._loop.time()
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._check_idle)
        else:
            self.end(_idle(self._streams.idle_seconds))


def _client_gone() -> Problem:
    return Problem(499, "CANCELLED", "The client closed the connection.", "CLIENT_GONE")


def _idle(seconds: float) -> Problem:
    detail = f"Nothing moved on the stream for {seconds:g} seconds."
    return Problem(504, "DEADLINE_EXCEEDED", detail, "STREAM_IDLE")


def _stopping() -> Problem:
    detail = "The server is stopping. What was answered stands; the rest may be sent again."
    return Problem(503, "UNAVAILABLE", detail, "SERVER_STOPPING", headers={"Retry-After": "1"})
