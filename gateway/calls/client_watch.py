"""Cancels unary calls whose clients disconnect before the response."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gateway.http.body import ClientGoneError, RequestBody

WATCH_AFTER_SECONDS = 0.1
"""How long a call runs unwatched at least. Most are over by then and need no task, and one timer
serves all calls."""


class ClientWatch:
    """Watches the clients of all but the shortest calls that one process makes."""

    def __init__(self) -> None:
        self._unwatched: set[WatchedCall] = set()
        self._timer: asyncio.TimerHandle | None = None

    def over(self, call: Any, body: RequestBody) -> "WatchedCall":
        """Return the context manager to await a call in, after the body was read.

        When the client disconnects, the call is cancelled and the block raises ClientGoneError.
        """
        watched = WatchedCall(call, body, self._unwatched)
        self._unwatched.add(watched)
        if self._timer is None:
            self._set_timer()
        return watched

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._tick)

    def _tick(self) -> None:
        """Begin to watch the calls that were in flight at the previous tick."""
        self._timer = None
        for watched in tuple(self._unwatched):
            watched.tick()
        if self._unwatched:
            self._set_timer()


@dataclass(slots=True, eq=False)
class WatchedCall:
    """A context manager around one call."""

    _call: Any
    _body: RequestBody
    _unwatched: "set[WatchedCall]"
    _has_ticked: bool = False
    _client_is_gone: bool = False
    _watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        """Let the call run; a tick of the ClientWatch begins to watch it."""

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None
    ) -> None:
        """Stop watching.

        Raises:
            ClientGoneError: the client disconnected. grpc.aio reports the cancelled call as a
                CancelledError, like the cancellation of the current task.
        """
        self._unwatched.discard(self)
        if self._watching is not None:
            self._watching.cancel()
        if self._client_is_gone and kind is asyncio.CancelledError:
            raise ClientGoneError from None

    def tick(self) -> None:
        """Begin to watch at the second tick, when the call has run for WATCH_AFTER_SECONDS."""
        if self._has_ticked:
            self._unwatched.discard(self)
            self._watching = asyncio.create_task(self._watch())
        self._has_ticked = True

    async def _watch(self) -> None:
        await self._body.wait_for_disconnect()
        self._client_is_gone = True
        self._call.cancel()
