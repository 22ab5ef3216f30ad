"""Cancels a unary call whose client leaves: nobody is there any more to take the response."""

import asyncio
from typing import Any

from gateway.request_body import ClientGoneError, RequestBody

WATCH_AFTER_SECONDS = 0.05
"""How long a call runs unwatched. Most are over by then, and a timer costs less than a task."""


async def await_while_client_stays(call: Any, body: RequestBody) -> Any:
    """Return the response of a call.

    Raises:
        ClientGoneError: the client left, and the call was cancelled.
        grpc.aio.AioRpcError: the call failed.
    """
    watch = _ClientWatch(call, body)
    try:
        return await call
    except asyncio.CancelledError:
        # grpc.aio reports a call that we cancelled in the same way as a cancelled task.
        if watch.client_left:
            raise ClientGoneError from None
        raise
    finally:
        watch.stop()


class _ClientWatch:
    def __init__(self, call: Any, body: RequestBody) -> None:
        self._call = call
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._begin)
        self._watching: asyncio.Task[None] | None = None
        self.client_left = False

    def stop(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        await self._body.wait_for_disconnect()
        self.client_left = True
        self._call.cancel()
