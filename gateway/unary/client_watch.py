"""Cancels a unary call whose client leaves: nobody is there any more to take the response."""

import asyncio
from types import TracebackType
from typing import Any

from gateway.request_body import ClientGoneError, RequestBody

WATCH_AFTER_SECONDS = 0.1
"""How long a call runs unwatched, at least. Most are over by then, and need neither a task nor,
since all that are running share one, a timer of their own."""


class ClientWatch:
    """Watches the clients of the calls that one process makes, all but the short ones."""

    def __init__(self) -> None:
        self._unwatched: set[WatchedCall] = set()
        self._timer: asyncio.TimerHandle | None = None

    def over(self, call: Any, body: RequestBody) -> "WatchedCall":
        """Return the context to await a call in, whose client has sent all of its body.

        Within it the call is cancelled when the client leaves, and ClientGoneError is raised.
        """
        watched = WatchedCall(call, body, self._unwatched)
        self._unwatched.add(watched)
        if self._timer is None:
            self._set_timer()
        return watched

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._begin)

    def _begin(self) -> None:
        """Begin to watch the calls that were there the time before."""
        self._timer = None
        for watched in tuple(self._unwatched):
            watched.grow_older()
        if self._unwatched:
            self._set_timer()


class WatchedCall:
    """One call while it runs."""

    __slots__ = ("_body", "_call", "_client_left", "_is_old", "_unwatched", "_watching")

    def __init__(self, call: Any, body: RequestBody, unwatched: "set[WatchedCall]") -> None:
        self._call = call
        self._body = body
        self._unwatched = unwatched
        self._is_old = False
        self._client_left = False
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None
    ) -> None:
        """Watch no longer.

        Raises:
            ClientGoneError: the call was cancelled because the client left, which grpc.aio reports
                in the same way as a task that is cancelled.
        """
        self._unwatched.discard(self)
        if self._watching is not None:
            self._watching.cancel()
        if self._client_left and kind is asyncio.CancelledError:
            raise ClientGoneError from None

    def grow_older(self) -> None:
        """Begin to watch, the second time."""
        if self._is_old:
            self._unwatched.discard(self)
            self._watching = asyncio.create_task(self._watch())
        self._is_old = True

    async def _watch(self) -> None:
        await self._body.wait_for_disconnect()
        self._client_left = True
        self._call.cancel()
