"""One streaming call: messages from a client passed to a service, and answers read, at once.

Nothing is collected: the next answer is read when it is asked for, and the next message of an
upload when gRPC has taken the one before. What answers look like over HTTP is not known here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from gateway.calls.open_streams import OpenStreams, stopping
from gateway.http.body import ClientGoneError
from gateway.http.exchange import Exchange
from gateway.http.problems import Problem, from_rpc_error


class Mark(Enum):
    """What can be read instead of an answer."""

    END = "end"
    PAUSE = "pause"


class Relay:
    """One streaming call between a client and a service, made in the task that serves the request.

    `begin` makes the call, and `close` ends it in any case.
    """

    def __init__(
        self,
        make_call: Callable[[], Any],
        exchange: Exchange,
        streams: OpenStreams,
        requests: AsyncIterator[Message] | None = None,
    ) -> None:
        self._make_call = make_call
        self._exchange = exchange
        self._streams = streams
        self._requests = requests
        self._call: Any = None
        self._answers_stream = False
        self._problem: Problem | None = None
        self._owner = asyncio.current_task()
        self._client: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[Message | Mark] | None = None
        self._stopped = False
        self._awaiting_line = False
        self._writing = False
        self._sending = False
        self._loop = asyncio.get_running_loop()
        self._last_move = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Make the call, and begin to pass the upload on.

        Raises:
            Problem: no more streams can be open.
        """
        self._streams.add(self)
        self._call = self._make_call()
        if self._requests is not None:
            _keep_true_status(self._call)
        self._answers_stream = hasattr(self._call, "read")
        self._timer = self._loop.call_later(self._streams.limits.idle_seconds, self._check_idle)
        self._client = self._loop.create_task(self._follow_client())

    async def result(self) -> Message:
        """Return the one answer to a stream of requests.

        Raises:
            Problem: the call failed.
        """
        answer: Message = await self._guard(self._call)
        return answer

    async def metadata(self) -> tuple[grpc.aio.Metadata, grpc.aio.Metadata]:
        """Return what the service sent before and after its one answer."""
        return await self._call.initial_metadata(), await self._call.trailing_metadata()

    async def read(self) -> Message | Mark:
        """Return the next answer, or END.

        Raises:
            Problem: the call failed, or the upload did.
        """
        message = await self._guard(self._call.read())
        self._touch()
        if message is not grpc.aio.EOF:
            return cast("Message", message)
        if self._problem is not None:
            raise self._problem
        return Mark.END

    async def read_or_pause(self) -> Message | Mark:
        """Return the next answer, or END, or PAUSE where none comes until a heartbeat is due.

        Raises:
            Problem: the call failed, or the upload did.
        """
        # A read that is cancelled would take the call with it.
        self._reading = reading = self._reading or self._loop.create_task(self.read())
        limits = self._streams.limits
        done, _ = await asyncio.wait((reading,), timeout=limits.heartbeat_seconds)
        if not done:
            return Mark.PAUSE
        self._reading = None
        return reading.result()

    def begin_sending(self) -> None:
        """Note that the client is to take something now."""
        self._sending = True

    def end_sending(self) -> None:
        """Note that the client took it: a move, if it is not all that moves.

        While the service does not take what the client sent, only its answers are moves: whether
        the client is still there is not noticed either.
        """
        self._sending = False
        if not self._writing:
            self._touch()

    async def close(self) -> None:
        """End the call if it is not over, and everything that belongs to it."""
        self._streams.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            self._call.cancel()
        for task in (self._client, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        if self._reading is not None:
            with suppress(Problem, asyncio.CancelledError):
                self._reading.result()  # Nobody waits any more for what it has to tell.

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
        self._problem = self._problem or stopping()
        if self._awaiting_line and self._client is not None:
            self._client.cancel()

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
                self._writing = True
                await self._call.write(request)
                self._writing = False
                self._touch()
        except Problem as problem:
            # Without its traceback, whose frames hold the line that was too large.
            self._problem = self._problem or problem.with_traceback(None)
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

    def _touch(self) -> None:
        self._last_move = self._loop.time()

    def _check_idle(self) -> None:
        idle_seconds = self._streams.limits.idle_seconds
        remaining = self._last_move + idle_seconds - self._loop.time()
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._check_idle)
        else:
            self.end(_idle(idle_seconds))


class _Core:
    """The inner part of a call of grpc.aio, less the status that it makes up where a write fails.

    A write fails when the service has ended the call, mostly before its status was read. grpc.aio
    then says INTERNAL, and what the service said is lost.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def set_internal_error(self, _error: str) -> None:
        """Leave it to the status that is on its way."""


def _keep_true_status(call: Any) -> None:
    call._cython_call = _Core(call._cython_call)  # noqa: SLF001 - nothing public gets there.


def _client_gone() -> Problem:
    return Problem(499, "CANCELLED", "The client closed the connection.", "CLIENT_GONE")


def _idle(seconds: float) -> Problem:
    detail = f"Nothing moved on the stream for {seconds:g} seconds."
    return Problem(504, "DEADLINE_EXCEEDED", detail, "STREAM_IDLE")
