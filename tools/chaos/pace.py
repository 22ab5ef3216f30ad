"""The pace of a run: a fault waits for its order, and the orders after it wait for the fault."""

import asyncio


class Pace:
    """Counts the orders that have begun, up to `orders`."""

    def __init__(self, orders: int) -> None:
        self.orders = orders
        self.begun = 0
        self._gate = 0
        self._changed = asyncio.Condition()

    async def begin(self, wanted: int) -> range:
        """Wait until the next order may begin; return the numbers of those that do.

        They are at most `wanted`, and none when all orders have begun.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self.begun < self._gate)
            first = self.begun
            self.begun = min(first + wanted, self.orders)
            self._changed.notify_all()
            return range(first, self.begun)

    async def reach(self, orders: int) -> None:
        """Let orders begin, and wait until there are so many."""
        async with self._changed:
            self._gate = max(self._gate, orders)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self.begun >= orders)

    async def release(self) -> None:
        """Let all the other orders begin."""
        async with self._changed:
            self._gate = self.orders + 1
            self._changed.notify_all()
