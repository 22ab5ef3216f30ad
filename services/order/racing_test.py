"""Many clients order the last unit of a product at once, round after round.

`--test_env=RACING_ROUNDS=200 --test_timeout=3600` makes it the long form.
"""

import asyncio
import os
from collections import Counter

import grpc

from bazaar.order.v1 import order_pb2
from chassis.testing import read_refusal
from services.order.testing import Shop, Urls, audit, make_due, new_order, states

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

RACERS = 500
ROUNDS = int(os.environ.get("RACING_ROUNDS", "2"))


async def race(shop: Shop, request: order_pb2.CreateOrderRequest) -> str:
    """Return what a client learns: the state of its order, or why there is none for it."""
    try:
        order = await shop.orders.CreateOrder(request)
    except grpc.aio.AioRpcError as error:
        return read_refusal(error).reason
    return order_pb2.OrderState.Name(order.state)


async def test_one_of_500_racers_gets_the_last_unit(shop: Shop, urls: Urls) -> None:
    user_id = await shop.new_user()
    for number in range(1, ROUNDS + 1):
        product = await shop.new_product(sku=f"{number}", units=1)
        learned = Counter(
            await asyncio.gather(
                *(
                    race(shop, new_order(user_id, (product, 1), key=f"{number} {racer}"))
                    for racer in range(RACERS)
                )
            )
        )
        # On a busy machine some orders are left to the worker.
        make_due(urls)
        await shop.worker.run()
        assert learned["ORDER_STATE_CONFIRMED"] <= 1
        assert learned["OUT_OF_STOCK"] <= RACERS - 1
        assert Counter(states(urls)) == {"CONFIRMED": number, "REJECTED": number * (RACERS - 1)}
        assert await shop.stock(product) == (0, 0, 1)
    assert audit(urls) == []
