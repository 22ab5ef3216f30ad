"""Background tasks that run as long as their process.

An exception in a task is logged, with a traceback if it is a defect, and the task goes on, because
nothing awaits it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from chassis import errors, log

CANCEL_SECONDS = 1.0
"""How long a task that is cancelled may take to end before it is cancelled again."""
MIN_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0


class BackgroundTask:
    """Awaits `work` again and again, `interval_seconds` apart, from `start` to `stop`.

    While it fails, the pause doubles, from at least MIN_BACKOFF_SECONDS up to MAX_BACKOFF_SECONDS,
    or the interval if that is longer. If `retry_seconds` are given, it is that.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        interval_seconds: float,
        retry_seconds: float | None = None,
    ) -> None:
        self._name = name
        self._work = work
        self._interval_seconds = interval_seconds
        self._retry_seconds = retry_seconds
        self._log = log.logger()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with `work` at once."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Cancel the task and wait for its end."""
        while self._task is not None and not self._task.done():
            # asyncio.wait_for of Python 3.11 may lose a cancellation that comes with its result.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_SECONDS)

    async def _run(self) -> None:
        pause_seconds = self._interval_seconds
        while True:
            try:
                await self._work()
                pause_seconds = self._interval_seconds
            except errors.Error as error:
                reason, cause = error.reason, str(error.__cause__)
                self._log.warning(
                    "background_task_failed", task=self._name, reason=reason, cause=cause
                )
                pause_seconds = self._back_off(pause_seconds)
            except Exception:
                self._log.exception("background_task_failed", task=self._name)
                pause_seconds = self._back_off(pause_seconds)
            await asyncio.sleep(pause_seconds)

    def _back_off(self, pause_seconds: float) -> float:
        if self._retry_seconds is not None:
            return self._retry_seconds
        longest = max(self._interval_seconds, MAX_BACKOFF_SECONDS)
        return min(max(2 * pause_seconds, MIN_BACKOFF_SECONDS), longest)
