"""The load of a run: clients that place orders, and one that cancels some."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from tools.chaos.clients import Clients, Request
from tools.chaos.orders import Catalogue, Orders
from tools.chaos.pace import Pace
from tools.chaos.record import Acknowledgement, Finding, is_active

CLIENTS = 40
CHUNK_SHARE, REST_SHARE = 0.1, 0.4
"""The shares of chunks and of REST requests among all requests."""
CHUNK_ORDERS = (2, 10, 50)
TIMEOUTS_SECONDS = (0.5, 2.0, 6.0)
"""How patient clients are; then they repeat the request."""
DOUBLE_SHARE = 0.1
"""The share of orders that are sent twice at once, and of those that are sent again at the end."""
LEAVE_SHARE = 0.3
"""The share of clients that leave when an order is accepted, before it is final."""
GIVE_UP_SHARE = 0.02
"""The share of failures after which a client never comes back."""
PATIENCE_SECONDS = 180.0
"""How long an order may be repeated before the shop counts as down."""
CANCEL_PAUSE_SECONDS = 0.05
NEWEST_ORDERS = 20

Send = Callable[[Request, float], Awaitable[Acknowledgement | None]]


class Load:
    """Places the orders of a run in its pace; each client does one thing after the other."""

    def __init__(
        self, orders: Orders, catalogue: Catalogue, clients: Clients, pace: Pace, random: Random
    ) -> None:
        self.unacknowledged = Finding()
        """The orders whose clients wanted an acknowledgement, and waited in vain."""
        self._orders = orders
        self._catalogue = catalogue
        self._clients = clients
        self._pace = pace
        self._random = random

    async def run(self) -> None:
        """Place all orders, and cancel some of them meanwhile."""
        async with asyncio.TaskGroup() as group:
            cancelling = group.create_task(self._cancel())
            async with asyncio.TaskGroup() as placing:
                for _ in range(CLIENTS):
                    placing.create_task(self._place())
            cancelling.cancel()

    async def _place(self) -> None:
        while True:
            chunked = self._random.random() < CHUNK_SHARE
            count = self._random.choice(CHUNK_ORDERS) if chunked else 1
            numbers = await self._pace.begin(count)
            if not numbers:
                return
            requests = [self._orders.make(number) for number in numbers]
            if chunked:
                await self._place_chunk(requests)
            else:
                await self._place_one(requests[0])

    async def _place_one(self, request: Request) -> None:
        by_rest = self._random.random() < REST_SHARE
        send = self._clients.send_by_rest if by_rest else self._clients.send
        copies = 2 if self._random.random() < DOUBLE_SHARE else 1
        await asyncio.gather(*(self._insist(request, send) for _ in range(copies)))
        if self._random.random() < DOUBLE_SHARE:
            await self._insist(request, send)

    async def _place_chunk(self, requests: Sequence[Request]) -> None:
        """Send a chunk until no order is left whose outcome is unknown."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        left = list(requests)
        while left and time.monotonic() < give_up:
            sent = await self._clients.send_chunk(left)
            left = [request for request in left if sent.get(request.idempotency_key) is None]
            if left:
                await self._pause()
        self._note_patience(left, len(requests))

    async def _insist(self, request: Request, send: Send) -> None:
        """Repeat an order as clients do: until it is final, or accepted, or they have enough."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        is_acknowledged = False
        while time.monotonic() < give_up:
            found = await send(request, self._random.choice(TIMEOUTS_SECONDS))
            is_acknowledged = is_acknowledged or found is not None
            leaves = LEAVE_SHARE if found else GIVE_UP_SHARE
            if (found and found.is_final) or self._random.random() < leaves:
                return self._note_patience([], 1)
            await self._pause()
        return self._note_patience([] if is_acknowledged else [request], 1)

    def _note_patience(self, left: Sequence[Request], count: int) -> None:
        for index in range(count):
            example = f"key {left[index].idempotency_key}" if index < len(left) else ""
            self.unacknowledged.note(bool(example), example)

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.random() * 0.5)

    async def _cancel(self) -> None:
        """Cancel orders that are not final, here and there."""
        while True:
            await asyncio.sleep(self._random.random() * 2 * CANCEL_PAUSE_SECONDS)
            user_id = self._random.choice(self._catalogue.user_ids)
            newest = await self._clients.list_newest(user_id, NEWEST_ORDERS)
            active = [order for order in newest if is_active(order)]
            if active:
                await self._clients.cancel(self._random.choice(active))
