"""Orders while the database of a service is frozen: none exceeds its deadline, none is lost."""

import asyncio
import time

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from chassis.database import CONNECTIONS
from services.order.testing import Shop, Urls, audit, new_order
from tools.postgres.freezing import frozen_backends, list_backends

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

DEADLINE_SECONDS = 1.0
ORDERS = 20


async def place(shop: Shop, request: order_pb2.CreateOrderRequest) -> grpc.StatusCode:
    try:
        await shop.orders.CreateOrder(request, timeout=DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("service", ["user", "product", "payment", "order"])
async def test_orders_keep_their_deadlines_and_are_placed_afterwards(
    shop: Shop, urls: Urls, service: str
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=100)
    requests = [new_order(user_id, (product, 1), key=str(number)) for number in range(ORDERS)]
    # Every connection that freezes has been used before.
    assert await place(shop, requests[0]) == grpc.StatusCode.OK
    with frozen_backends(urls[service]):
        began = time.monotonic()
        codes = await asyncio.gather(*(place(shop, request) for request in requests))
        assert time.monotonic() - began < DEADLINE_SECONDS + 1
        assert set(codes) <= {
            grpc.StatusCode.OK,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
    async with asyncio.timeout(10):
        for request in requests:
            while await place(shop, request) != grpc.StatusCode.OK:
                pass
        # Frozen backends have noticed that their clients are gone, and have exited.
        # Beside the pool there are a probe and, in the order service, a listener.
        while len(list_backends(urls[service])) > CONNECTIONS + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert audit(urls) == []
