"""One streaming call between a client and a service: requests and responses, at the same time.

Nothing is buffered: a response is read when the client has taken the one before.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from gateway.calls.open_streams import OpenStreams, stopping
from gateway.calls.upload import Upload
from gateway.http.body import ClientGoneError
from gateway.http.deadline import Deadline
from gateway.http.exchange import Exchange
from gateway.http.problems import CLIENT_CLOSED_REQUEST, Problem
from gateway.http.statuses import from_rpc_error


class Mark(Enum):
    """What can be read instead of a response."""

    END = "end"
    PAUSE = "pause"


class Relay:
    """A streaming call, made in the task that serves the request.

    `begin` makes the call, and `close` releases everything in any case.
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
        self._responses_stream = False
        self._upload: Upload | None = None
        self._problem: Problem | None = None
        """Why the gateway ended the call, or part of it; the first reason counts."""
        self._owner = asyncio.current_task()
        self._client: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[Message | Mark] | None = None
        self._sending = False
        self._loop = asyncio.get_running_loop()
        self._idle = Deadline(self._loop, self._time_out)
        self._idle_seconds = streams.idle_seconds

    def begin(self) -> None:
        """Make the call, and begin to pass the upload on.

        Raises:
            Problem: the server is stopping, or the limit of open streams is reached.
        """
        self._streams.add(self, self._exchange.client, self._exchange.account)
        self._exchange.become_stream()
        self._call = self._make_call()
        if self._requests is not None:
            self._upload = Upload(self._requests, self._call, self._note_activity)
        self._responses_stream = hasattr(self._call, "read")
        self._note_activity()
        self._client = self._loop.create_task(self._follow_client())

    async def result(self) -> Message:
        """Return the single response to a stream of requests.

        Raises:
            Problem: the call failed.
        """
        response: Message = await self._guard(self._call)
        return response

    async def metadata(self) -> tuple[grpc.aio.Metadata, grpc.aio.Metadata]:
        """Return the initial and the trailing metadata of a call with a single response."""
        return await self._call.initial_metadata(), await self._call.trailing_metadata()

    async def read(self) -> Message | Mark:
        """Return the next response, or END.

        Raises:
            Problem: the call failed, or the upload did.
        """
        message = await self._guard(self._call.read())
        self._note_activity()
        if message is not grpc.aio.EOF:
            return cast("Message", message)
        if self._problem is not None:
            raise self._problem
        return Mark.END

    async def read_or_pause(self) -> Message | Mark:
        """Return the next response, or END, or PAUSE if a heartbeat is due before that.

        Raises:
            Problem: the call failed, or the upload did.
        """
        # A read that is cancelled would cancel the call.
        self._reading = reading = self._reading or self._loop.create_task(self.read())
        done, _ = await asyncio.wait((reading,), timeout=self._streams.heartbeat_seconds)
        if not done:
            return Mark.PAUSE
        self._reading = None
        return reading.result()

    def begin_sending(self) -> None:
        """Note that a piece of the response is being sent to the client."""
        self._sending = True

    def end_sending(self) -> None:
        """Note that the client has taken the piece, which is activity.

        It does not count while the service does not take the client's last request: only responses
        do, because a disconnect of the client would not be noticed either.
        """
        self._sending = False
        if self._upload is None or not self._upload.is_blocked:
            self._note_activity()

    async def close(self) -> None:
        """Cancel the call if it is not over, and release everything."""
        self._streams.remove(self)
        self._idle.close()
        if self._call is not None:
            self._call.cancel()
        for task in (self._client, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        if self._reading is not None:
            with suppress(Problem, asyncio.CancelledError):
                self._reading.result()  # Retrieved, or asyncio would report it as unhandled.

    def end(self, problem: Problem) -> None:
        """Cancel the call; a client that is not taking what is sent is disconnected."""
        self._cancel(problem)
        if self._sending and self._owner is not None:
            self._exchange.abandoned = True
            self._owner.cancel()

    def stop_upload(self) -> None:
        """Take no more of the upload; requests that were taken still get their responses."""
        if self._upload is None or not self._responses_stream or self._upload.is_over:
            return
        self._problem = self._problem or stopping()
        self._upload.stop()

    async def _follow_client(self) -> None:
        """Pass the upload on, then wait until the client disconnects."""
        try:
            if self._upload is not None:
                await self._pass_upload(self._upload)
            await self._exchange.body.wait_for_disconnect()
        except ClientGoneError:
            pass
        detail = "The client closed the connection."
        self._cancel(Problem(CLIENT_CLOSED_REQUEST, "CANCELLED", detail, "CLIENT_GONE"))

    async def _pass_upload(self, upload: Upload) -> None:
        try:
            await upload.run()
        except Problem as problem:
            # Without its traceback, whose frames hold the line that was too large.
            problem = problem.with_traceback(None)
            if self._responses_stream:
                self._problem = self._problem or problem
                await upload.end()
            else:
                # The service must not take half of the requests for all of them.
                self._cancel(problem)

    def _cancel(self, problem: Problem) -> None:
        self._problem = self._problem or problem
        self._call.cancel()

    async def _guard(self, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except grpc.aio.AioRpcError as error:
            problem = self._problem or from_rpc_error(error)
            self._exchange.note_failure(problem, error.details() or "")
            raise problem from error
        except asyncio.CancelledError:
            # grpc.aio reports a call that was cancelled here in the same way as a cancelled task.
            if self._problem is None or self._exchange.abandoned:
                raise
            raise self._problem from None

    def _note_activity(self) -> None:
        self._idle.set(self._idle_seconds)

    def _time_out(self) -> None:
        detail = f"There was no activity on the stream for {self._idle_seconds:g} seconds."
        self.end(Problem(504, "DEADLINE_EXCEEDED", detail, "STREAM_IDLE"))
