"""A merchant, who changes prices and delivers scarce products while orders are placed."""

import asyncio
from random import Random

import grpc
from google.protobuf import field_mask_pb2

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from tools.chaos.accounts import Accounts
from tools.chaos.orders import Catalogue

PAUSE_SECONDS = 0.2
MAX_DELIVERY, MAX_PRICE = 3, 90
TIMEOUT_SECONDS = 5.0
PATIENCE_SECONDS = 120.0

_PRICE = field_mask_pb2.FieldMask(paths=["price"])


class Merchant:
    """Works alone: one delivery after the other, so that it knows what it has delivered."""

    def __init__(
        self, channel: grpc.aio.Channel, accounts: Accounts, catalogue: Catalogue, random: Random
    ) -> None:
        self._products = product_pb2_grpc.ProductServiceStub(channel)
        self._accounts = accounts
        self._catalogue = catalogue
        self._random = random
        self._delivery: product_pb2.AdjustStockRequest | None = None
        """The delivery whose outcome is unknown."""
        self._deliveries = 0

    async def run(self) -> None:
        """Work without end."""
        while True:
            await asyncio.sleep(self._random.random() * 2 * PAUSE_SECONDS)
            await self._change_price()
            await self._deliver()

    async def finish(self) -> None:
        """Repeat the last delivery until its outcome is known.

        Raises:
            TimeoutError: it does not become known.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._delivery is not None:
                await self._deliver()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _change_price(self) -> None:
        product_ids = [*self._catalogue.plentiful, *self._catalogue.scarce]
        product = product_pb2.Product(product_id=self._random.choice(product_ids))
        product.price.units = self._random.randint(1, MAX_PRICE)
        product.price.currency_code = "GBP"
        metadata = await self._accounts.authorize()
        try:
            await self._products.UpdateProduct(
                product_pb2.UpdateProductRequest(product=product, update_mask=_PRICE),
                timeout=TIMEOUT_SECONDS,
                metadata=metadata,
            )
        except grpc.aio.AioRpcError:
            return  # Whether the price has changed does not matter.

    async def _deliver(self) -> None:
        """Deliver units once, however often the request has to be repeated."""
        if self._delivery is None:
            self._deliveries += 1
            self._delivery = product_pb2.AdjustStockRequest(
                product_id=self._random.choice(self._catalogue.scarce),
                delta=self._random.randint(1, MAX_DELIVERY),
                idempotency_key=f"delivery-{self._deliveries}",
            )
        metadata = await self._accounts.authorize()
        try:
            await self._products.AdjustStock(
                self._delivery, timeout=TIMEOUT_SECONDS, metadata=metadata
            )
        except grpc.aio.AioRpcError:
            return  # To be repeated.
        self._catalogue.stocked[self._delivery.product_id] += self._delivery.delta
        self._delivery = None
