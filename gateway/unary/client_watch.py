"""Cancels a unary call whose client leaves: nobody is there any more to take the response."""

import asyncio
from typing import Any

from gateway.request_body import ClientGoneError, RequestBody

WATCH_AFTER_SECONDS = 0.05
"""How long a call may run unwatched. Most are over by then, and need neither a task nor, since all
that are running share one, a timer of their own."""


class ClientWatch:
    """Watches the clients of all calls that one process makes."""

    def __init__(self) -> None:
        self._unwatched: set[_WatchedCall] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def finish(self, call: Any, body: RequestBody) -> Any:
        """Return the response of a call, whose client has sent all of its body.

        Raises:
            ClientGoneError: the client left, and the call was cancelled.
            grpc.aio.AioRpcError: the call failed.
        """
        watched = _WatchedCall(call, body)
        self._unwatched.add(watched)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WATCH_AFTER_SECONDS, self._watch_all)
        try:
            return await call
        except asyncio.CancelledError:
            # grpc.aio reports a call that we cancelled in the same way as a cancelled task.
            if watched.client_left:
                raise ClientGoneError from None
            raise
        finally:
            self._unwatched.discard(watched)
            watched.stop()

    def _watch_all(self) -> None:
        self._timer = None
        for watched in self._unwatched:
            watched.begin()
        self._unwatched.clear()


class _WatchedCall:
    def __init__(self, call: Any, body: RequestBody) -> None:
        self._call = call
        self._body = body
        self._watching: asyncio.Task[None] | None = None
        self.client_left = False

    def begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        await self._body.wait_for_disconnect()
        self.client_left = True
        self._call.cancel()
