"""Staff who take goods back while orders are placed: refunds, in full or in part."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random

import grpc

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis.conversion import parse_money
from tools.chaos.accounts import Accounts
from tools.chaos.clients import Clients
from tools.chaos.orders import Catalogue
from tools.chaos.record import Finding

PAUSE_SECONDS = 0.2
NEWEST_ORDERS = 50
DOUBLE_SHARE = 0.2
"""The share of requests that are sent twice at once."""
TIMEOUT_SECONDS = 5.0
PATIENCE_SECONDS = 120.0

_REFUSED = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT})


class Returns:
    """Asks for one refund after the other, so that it knows what was refunded."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        accounts: Accounts,
        clients: Clients,
        catalogue: Catalogue,
        random: Random,
    ) -> None:
        self.returned: Counter[str] = Counter()
        """Units that are back in stock, by product id."""
        self._refunded_minor: Counter[str] = Counter()
        self._orders = order_pb2_grpc.OrderServiceStub(channel)
        self._accounts = accounts
        self._clients = clients
        self._catalogue = catalogue
        self._random = random
        self._request: order_pb2.RefundOrderRequest | None = None
        """The request whose outcome is unknown."""
        self._requests = 0

    async def run(self) -> None:
        """Take goods back without end."""
        while True:
            await asyncio.sleep(self._random.random() * 2 * PAUSE_SECONDS)
            if self._request is None:
                self._request = await self._choose()
            await self._send()

    async def finish(self) -> None:
        """Repeat the last request until its outcome is known.

        Raises:
            TimeoutError: it does not become known.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._request is not None:
                await self._send()
                await asyncio.sleep(PAUSE_SECONDS)

    def check(self, orders: Iterable[order_pb2.Order]) -> Finding:
        """Compare what was refunded with what the orders say of it."""
        found = Finding()
        for order in orders:
            known_minor = self._refunded_minor[order.order_id]
            noted_minor = 0
            if order.HasField("refunded_amount"):
                noted_minor = parse_money(order.refunded_amount, "refunded_amount").minor
            example = f"order {order.order_id}: {known_minor} refunded, but {noted_minor} noted"
            found.note(known_minor != noted_minor, example)
        return found

    async def _choose(self) -> order_pb2.RefundOrderRequest | None:
        """Return a request for some order that can be refunded, if there is one."""
        user_id = self._random.choice(self._catalogue.user_ids)
        newest = await self._clients.list_newest(user_id, NEWEST_ORDERS)
        confirmed = [each for each in newest if each.state == order_pb2.ORDER_STATE_CONFIRMED]
        if not confirmed:
            return None
        order = self._random.choice(confirmed)
        self._requests += 1
        request = order_pb2.RefundOrderRequest(
            order_id=order.order_id, idempotency_key=f"return-{self._requests}"
        )
        if self._random.random() < 0.5:  # Otherwise all that remains.
            request.amount.units, request.amount.currency_code = 1, order.total.currency_code
        if self._random.random() < 0.5:
            request.restock.add(product_id=order.lines[0].product_id, quantity=1)
        return request

    async def _send(self) -> None:
        request = self._request
        if request is None:
            return
        copies = 2 if self._random.random() < DOUBLE_SHARE else 1
        metadata = await self._accounts.authorize()
        calls = (
            self._orders.RefundOrder(request, timeout=TIMEOUT_SECONDS, metadata=metadata)
            for _ in range(copies)
        )
        for result in await asyncio.gather(*calls, return_exceptions=True):
            self._note(request, result)

    def _note(
        self, request: order_pb2.RefundOrderRequest, result: order_pb2.Refund | BaseException
    ) -> None:
        """Note the outcome of the request, if it is not known yet."""
        if self._request is None:
            return
        if isinstance(result, order_pb2.Refund):
            if result.state == order_pb2.REFUND_STATE_SUCCEEDED:
                self._request = None
                self._refunded_minor[request.order_id] += parse_money(result.amount, "amount").minor
                for line in result.restock:
                    self.returned[line.product_id] += line.quantity
        elif not isinstance(result, grpc.aio.AioRpcError):
            raise result
        elif result.code() in _REFUSED:
            self._request = None
