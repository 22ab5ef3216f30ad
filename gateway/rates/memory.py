"""Counters in the memory of one process, of a bounded number."""

import time

from limits.aio.storage import MemoryStorage

MAX_COUNTERS = 100_000
"""How many counters there are at most, about 30 MB; a client has one or two for each quota."""


class BoundedMemoryStorage(MemoryStorage):
    """The counters of `limits`, without its sweep over all of them at every request.

    A counter that has expired is dropped when it is looked up, or when it is the oldest and a new
    one needs its place. Only the strategy `SlidingWindowCounterRateLimiter` may use this storage.
    """

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        super().__init__()
        self._max_counters = max_counters

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter, which expires `expiry` seconds after it began, and return it."""
        count = await self.get(key) + amount
        if key not in self.storage:
            self._make_room()
            self.expirations[key] = time.time() + expiry
        self.storage[key] = count
        return count

    def _make_room(self) -> None:
        while len(self.storage) >= self._max_counters:
            oldest = next(iter(self.storage))
            del self.storage[oldest]
            del self.expirations[oldest]
