"""Customers who approve payments, or refuse to, and then return to the shop."""

import asyncio
import json
from random import Random

from bazaar.order.v1 import order_pb2
from tools.chaos.clients import Clients
from tools.chaos.orders import Catalogue, Orders, approves

PAUSE_SECONDS = 0.1
NEWEST_ORDERS, ALL_ORDERS = 20, 2**31 - 1
DOUBLE_SHARE = 0.2
"""The share of webhooks that are sent twice at once."""
TIMEOUT_SECONDS = 5.0
PATIENCE_SECONDS = 120.0


class Customers:
    """Look for orders that wait for them; a webhook that fails is sent again at the next look."""

    def __init__(
        self, clients: Clients, orders: Orders, catalogue: Catalogue, random: Random
    ) -> None:
        self._clients = clients
        self._orders = orders
        self._catalogue = catalogue
        self._random = random
        self._done: set[str] = set()
        """The ids of the orders whose webhook was received."""

    async def run(self) -> None:
        """Approve and refuse without end."""
        while True:
            await asyncio.sleep(self._random.random() * 2 * PAUSE_SECONDS)
            user_id = self._random.choice(self._catalogue.user_ids)
            for order in await self._find_waiting(user_id, NEWEST_ORDERS):
                await self._decide(order)

    async def finish(self) -> None:
        """Leave no order waiting.

        Raises:
            TimeoutError: a webhook is not received.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            for user_id in self._catalogue.user_ids:
                while waiting := await self._find_waiting(user_id, ALL_ORDERS):
                    await asyncio.gather(*(self._decide(order) for order in waiting))

    async def _find_waiting(self, user_id: str, count: int) -> list[order_pb2.Order]:
        return [
            order
            for order in await self._clients.list_newest(user_id, count)
            if order.state == order_pb2.ORDER_STATE_PAYING
            and order.HasField("payment_action")
            and order.order_id not in self._done
        ]

    async def _decide(self, order: order_pb2.Order) -> None:
        request = self._orders.find(order.idempotency_key)
        if request is None:
            return
        secret = order.payment_action.client_secret
        body = json.dumps({"client_secret": secret, "approved": approves(request)}).encode()
        copies = 2 if self._random.random() < DOUBLE_SHARE else 1
        sent = [self._clients.send_webhook("sandbox", body, TIMEOUT_SECONDS) for _ in range(copies)]
        if any(await asyncio.gather(*sent)):
            self._done.add(order.order_id)
            # Back in the shop; where that fails, the shop finds out by itself.
            await self._clients.send(request, TIMEOUT_SECONDS)
