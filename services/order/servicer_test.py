"""The order service through a real channel, on real databases, with the other three services."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.type import money_pb2

from bazaar.order.v1 import order_pb2
from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis.testing import refusal
from services.order.testing import (
    CARD,
    DECLINED_CARD,
    Shop,
    Urls,
    audit,
    clear_all,
    make_databases,
    open_shop,
)
from tools.postgres.testing import Databases

pytest_plugins = ("tools.postgres.testing",)
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def urls(databases: Databases) -> Iterator[Urls]:
    with make_databases(databases) as made:
        yield made


@pytest.fixture
async def shop(urls: Urls) -> AsyncIterator[Shop]:
    async with open_shop(urls) as opened:
        yield opened
    clear_all(urls)


def new_order(user_id: str, *lines: tuple[str, int], key: str = "k") -> order_pb2.CreateOrderRequest:
    return order_pb2.CreateOrderRequest(
        user_id=user_id,
        client_key=key,
        payment_method=CARD,
        lines=[
            order_pb2.CreateOrderRequest.Line(product_id=product_id, quantity=quantity)
            for product_id, quantity in lines
        ],
    )


async def test_create_order_reserves_charges_and_confirms(shop: Shop, urls: Urls) -> None:
    user_id = await shop.new_user()
    lamp, bulb = await shop.new_product("L", price=3), await shop.new_product("B", price=2)
    order = await shop.orders.CreateOrder(new_order(user_id, (lamp, 2), (bulb, 5)))
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert order.total == money_pb2.Money(currency_code="GBP", units=16)
    assert [(line.product_id, line.quantity, line.unit_price.units) for line in order.lines] == [
        (lamp, 2, 3),
        (bulb, 5, 2),
    ]
    assert await shop.stock(lamp) == (8, 0, 2)
    assert await shop.orders.GetOrder(order_pb2.GetOrderRequest(order_id=order.order_id)) == order
    assert audit(urls) == []
