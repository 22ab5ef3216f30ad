"""Replays trade through the shop: catalogue, users, corrections, orders, returns. Safe to repeat.

All that it creates carries the digest of the file: a repeated replay finds it again, and the replay
of another file does not.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import aiohttp
from google.rpc import code_pb2

from tools.replay.regions import REGIONS
from tools.replay.shop import Message, Shop, ShopError, reason_of, to_money
from tools.replay.trade import GUEST, Line, ProductKey, Return, Sale, Trade

CONCURRENCY = 16
CHUNK_ORDERS = 100
CHUNK_LINES = 2_000
ATTEMPTS = 5
RETRY_SECONDS = 1.0
PAYMENT_METHOD = "pm_card_visa"
FINISH_SECONDS = 120.0
"""How long an order may take that waits for its customer, or for a service."""

_UNFINISHED = frozenset({code_pb2.UNAVAILABLE, code_pb2.INTERNAL})
"""The codes of the errors of orders that are accepted, and not final."""
_IN_USE = "IDEMPOTENCY_KEY_IN_USE"
"""The reason of a refusal while the same request is still running."""

Item = TypeVar("Item")


class Progress(Protocol):
    """Shows the progress of a replay."""

    def start(self, step: str, total: int) -> None:
        """Begin a step of `total` items."""

    def advance(self, items: int = 1) -> None:
        """Count items of the current step as done."""


@dataclass(slots=True)
class Outcome:
    """The ids and orders that a replay created, and the reasons why orders were refused."""

    users: dict[str, str] = field(default_factory=dict)
    products: dict[ProductKey, str] = field(default_factory=dict)
    orders: dict[str, Message] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    order_seconds: float = 0.0


class Replay:
    """The replay of one trade through one shop."""

    def __init__(
        self,
        trade: Trade,
        shop: Shop,
        progress: Progress,
        payment_method: str = PAYMENT_METHOD,
        *,
        is_streamed: bool = True,
    ) -> None:
        """Place orders by one stream, or without `is_streamed` each by a request of its own."""
        self._trade = trade
        self._shop = shop
        self._progress = progress
        self._payment_method = payment_method
        self._is_streamed = is_streamed
        self._unfinished: list[Sale] = []
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Run every step, and return what was created and refused.

        Raises:
            ShopError: the shop refused a request other than an order.
            aiohttp.ClientError: the shop cannot be reached.
        """
        await self._add_products()
        await self._create_users()
        await self._each("Correcting stock", self._trade.corrections, self._correct_stock)
        if self._is_streamed:
            await self._place_orders()
            await self._each("Finishing orders", self._unfinished, self._finish)
        else:
            await self._each("Placing orders", self._trade.sales, self._finish)
        refunded = [item for item in self._trade.returns if item.sale in self.outcome.orders]
        await self._each("Refunding returns", refunded, self._refund)
        return self.outcome

    def sku(self, product: ProductKey) -> str:
        """Return the SKU of a product of this trade."""
        return f"{self._trade.digest}:{product.stock_code}@{product.price_minor / 100:.2f}"

    async def _add_products(self) -> None:
        catalogue = self._trade.opening_stock()
        products = {self.sku(product): product for product in catalogue}
        query = f'attributes.trade = "{self._trade.digest}"'
        async for page in self._shop.stream("/v1/products", filter=query):
            for found in page.get("products", ()):
                self.outcome.products[products[found["sku"]]] = found["productId"]
        descriptions: dict[ProductKey, list[str]] = defaultdict(list)
        for line in self._trade.lines:
            if line.description and line.description not in descriptions[line.product]:
                descriptions[line.product].append(line.description)

        async def add(product: ProductKey) -> None:
            known = descriptions[product]
            attributes = {"trade": self._trade.digest, "stock_code": product.stock_code}
            body = {
                "sku": self.sku(product),
                "name": known[0] if known else product.stock_code,
                "price": to_money(product.price_minor),
                "stock": {"available": catalogue[product]},
                "attributes": {**attributes, "descriptions": known},
            }
            added = await self._shop.post("/v1/products", body)
            self.outcome.products[product] = added["productId"]

        missing = [product for product in catalogue if product not in self.outcome.products]
        await self._each("Adding products", missing, add)

    async def _create_users(self) -> None:
        countries = {line.customer: line.country for line in self._trade.lines}
        customers = {self._email(customer): customer for customer in countries}
        token = ""
        while True:
            parameters = {"pageSize": "1000", "pageToken": token}
            page = await self._shop.get("/v1/users", **parameters)
            for found in page.get("users", ()):
                if found["email"] in customers:
                    self.outcome.users[customers[found["email"]]] = found["userId"]
            token = page.get("nextPageToken", "")
            if not token:
                break

        async def create(customer: str) -> None:
            region = REGIONS.get(countries[customer])
            body = {
                "email": self._email(customer),
                "password": f"{self._trade.digest}-{customer}",
                "displayName": f"Customer {customer}" if customer != GUEST else "Guest",
                "addresses": [{"regionCode": region}] if region else [],
            }
            created = await self._shop.post("/v1/users", body)
            self.outcome.users[customer] = created["userId"]

        missing = [customer for customer in countries if customer not in self.outcome.users]
        await self._each("Creating users", missing, create)

    async def _correct_stock(self, line: Line) -> None:
        await self._adjust(
            line.product, line.quantity, f"{line.invoice}/{line.number}", "correction"
        )

    async def _refund(self, item: Return) -> None:
        if item.is_free:
            await self._adjust(item.product, item.units, item.key, "customer return")
            return
        order_id = self.outcome.orders[item.sale]["orderId"]
        body = {
            "amount": to_money(item.amount_minor),
            "restock": [{"productId": self.outcome.products[item.product], "quantity": item.units}],
            "idempotencyKey": f"{self._trade.digest}/{item.key}",
        }
        for _ in range(ATTEMPTS):
            refund = await self._shop.post(f"/v1/orders/{order_id}:refund", body)
            if refund["state"] != "REFUND_STATE_PENDING":
                return
            await asyncio.sleep(RETRY_SECONDS)
        raise ShopError(0, "REFUND_PENDING", f"a refund of order {order_id} is still pending")

    async def _adjust(self, product: ProductKey, delta: int, key: str, reason: str) -> None:
        product_id = self.outcome.products[product]
        idempotency_key = f"{self._trade.digest}/{key}"
        body = {"delta": delta, "reason": reason, "idempotencyKey": idempotency_key}
        await self._shop.post(f"/v1/products/{product_id}:adjustStock", body)

    async def _place_orders(self) -> None:
        """Place every sale by the stream; after a failure, repeat chunks that had no response.

        A stream ends with the access token that it began with, and the next one has another token.
        """
        self._progress.start("Placing orders", len(self._trade.sales))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        waiting = dict(enumerate(_chunk(self._trade.sales), start=1))
        attempt = 1
        while waiting:
            left = len(waiting)
            try:
                await self._exchange_chunks(waiting)
            except (ShopError, aiohttp.ClientError) as error:
                if _has_expired(error) and len(waiting) < left:
                    continue
                lasting = isinstance(error, ShopError) and error.status < 500
                if lasting or attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(2.0**attempt / 4)
                attempt += 1
        self.outcome.order_seconds = loop.time() - begin

    async def _exchange_chunks(self, waiting: dict[int, list[Sale]]) -> None:
        messages = (
            {"seq": str(seq), "orders": [self._to_order(sale) for sale in sales]}
            for seq, sales in list(waiting.items())
        )
        async for response in self._shop.exchange("/v1/orders:stream", messages):
            sales = waiting.pop(int(response["seq"]))
            for sale, result in zip(sales, response["results"], strict=True):
                if "order" in result:
                    self.outcome.orders[sale.invoice] = result["order"]
                elif result["error"]["code"] in _UNFINISHED:
                    self._unfinished.append(sale)
                else:
                    self.outcome.refusals[sale.invoice] = reason_of(result["error"])
            self._progress.advance(len(sales))

    async def _finish(self, sale: Sale) -> None:
        """Repeat an order until it is final, and approve its payment as its customer would."""
        async with asyncio.timeout(FINISH_SECONDS):
            while (redirect_url := await self._repeat(sale)) is not None:
                if redirect_url:
                    await self._shop.approve(redirect_url)
                else:
                    await asyncio.sleep(RETRY_SECONDS)

    async def _repeat(self, sale: Sale) -> str | None:
        """Place an order again; return where its payment is approved, or None if it is final."""
        try:
            order = await self._shop.post("/v1/orders", self._to_order(sale))
        except ShopError as error:
            if error.status >= 500 or error.reason == _IN_USE:
                return ""
            self.outcome.refusals[sale.invoice] = error.reason
            return None
        if order["state"] != "ORDER_STATE_CONFIRMED":
            return str(order.get("paymentAction", {}).get("redirectUrl", ""))
        self.outcome.orders[sale.invoice] = order
        return None

    def _to_order(self, sale: Sale) -> Message:
        lines = [
            {"productId": self.outcome.products[product], "quantity": units}
            for product, units in sale.units.items()
        ]
        return {
            "userId": self.outcome.users[sale.customer],
            "idempotencyKey": f"{self._trade.digest}/{sale.invoice}",
            "lines": lines,
            "paymentMethod": self._payment_method,
        }

    def _email(self, customer: str) -> str:
        return f"customer-{customer or 'guest'}@{self._trade.digest}.example"

    async def _each(
        self, step: str, items: Iterable[Item], work: Callable[[Item], Awaitable[None]]
    ) -> None:
        """Await `work` for each item, `CONCURRENCY` at a time; the first failure ends them all."""
        pending = list(items)
        self._progress.start(step, len(pending))
        source = iter(pending)

        async def worker() -> None:
            for item in source:
                await work(item)
                self._progress.advance()

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(worker())


def _has_expired(error: Exception) -> bool:
    return isinstance(error, ShopError) and error.reason == "TOKEN_EXPIRED"


def _chunk(sales: Iterable[Sale]) -> Iterator[list[Sale]]:
    chunk: list[Sale] = []
    lines = 0
    for sale in sales:
        if chunk and (len(chunk) == CHUNK_ORDERS or lines + len(sale.units) > CHUNK_LINES):
            yield chunk
            chunk, lines = [], 0
        chunk.append(sale)
        lines += len(sale.units)
    if chunk:
        yield chunk
