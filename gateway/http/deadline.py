"""A deadline that is extended often and passes rarely."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls back when it passes. Moving it to a later time is cheap: it starts no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def set(self, seconds: float) -> None:
        """Move it to `seconds` from now; `math.inf` means never."""
        self._at = self._loop.time() + seconds
        if self._at < self._timer_at:
            self._start_timer()

    def close(self) -> None:
        """Stop for good: it never passes, even if it is moved again."""
        self._stop_timer()
        del self._passed  # It refers to what has this deadline.
        self._timer_at = -math.inf

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer_at = self._at
        self._timer = self._loop.call_at(self._at, self._check)

    def _stop_timer(self) -> None:
        self._timer_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Call back, or start a timer again if the deadline was moved meanwhile."""
        due = self._at <= self._timer_at
        self._stop_timer()
        if due:
            self._at = math.inf
            self._passed()
        elif self._at < math.inf:
            self._start_timer()
