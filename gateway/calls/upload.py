"""The requests of a client stream, passed on to the service one by one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message


class Upload:
    """Passes requests on: the next one is read when gRPC has taken the one before."""

    def __init__(
        self, requests: AsyncIterator[Message], call: Any, note_activity: Callable[[], None]
    ) -> None:
        """Pass `requests` on to a call, and note activity when the service has taken one."""
        call._cython_call = _Core(call._cython_call)  # noqa: SLF001 - it has no public name.
        self._requests = requests
        self._call = call
        self._note_activity = note_activity
        self._task: asyncio.Task[Any] | None = None
        """The task that waits for the client's next request."""
        self.is_blocked = False
        """The service has not taken the last request yet."""
        self.is_over = False
        """The service gets no more requests."""

    async def run(self) -> None:
        """Pass requests on until the client ends the upload, or the service the call.

        Raises:
            Problem: a request is not valid.
            ClientGoneError: the client disconnected.
        """
        try:
            while (request := await self._next()) is not None:
                self.is_blocked = True
                await self._call.write(request)
                self.is_blocked = False
                self._note_activity()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The service has ended the call; the reader of the responses gets its status.
        await self.end()

    async def end(self) -> None:
        """Half-close the call: the service receives the end of the requests."""
        self.is_over = True
        await self._call.done_writing()

    def stop(self) -> None:
        """Take no more requests from the client; `run` then half-closes the call."""
        self.is_over = True
        if self._task is not None:
            self._task.cancel()

    async def _next(self) -> Message | None:
        if self.is_over:
            return None
        self._task = asyncio.current_task()
        try:
            return await anext(self._requests, None)
        except asyncio.CancelledError:
            if self.is_over and not self._call.done():
                return None  # It was `stop` that cancelled the wait, and nothing else.
            raise
        finally:
            self._task = None


class _Core:
    """The core of a grpc.aio call, without the status INTERNAL that a failed write would set.

    A write fails when the service has ended the call, mostly before its status has been read; the
    status that it sent would be lost.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def set_internal_error(self, _error: str) -> None:
        """Do nothing: the status that the service sends is read instead."""
