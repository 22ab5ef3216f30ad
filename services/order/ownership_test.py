"""Which orders exist for whom, and for whom one may be placed."""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from chassis.testing import refusal
from services.order.chunk_testing import new_chunk, reasons
from services.order.testing import Orders, Shop, new_order

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

CALLS: Mapping[str, Callable[[Orders, str], Any]] = {
    "GetOrder": lambda orders, order_id: orders.GetOrder(
        order_pb2.GetOrderRequest(order_id=order_id)
    ),
    "ListRefunds": lambda orders, order_id: _first(
        orders.ListRefunds(order_pb2.ListRefundsRequest(order_id=order_id))
    ),
    "WatchOrder": lambda orders, order_id: _first(
        orders.WatchOrder(order_pb2.WatchOrderRequest(order_id=order_id))
    ),
    "ListOrderEvents": lambda orders, order_id: _first(
        orders.ListOrderEvents(order_pb2.ListOrderEventsRequest(order_id=order_id))
    ),
    "CancelOrder": lambda orders, order_id: orders.CancelOrder(
        order_pb2.CancelOrderRequest(order_id=order_id)
    ),
}
"""Calls about an order that exist for its owner and for staff."""


async def _first(stream: AsyncIterable[Any]) -> Any:
    return await anext(aiter(stream))


@pytest.fixture
async def ada(shop: Shop) -> str:
    return await shop.new_user("ada@example.com")


@pytest.fixture
async def bob(shop: Shop) -> str:
    return await shop.new_user("bob@example.com")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_an_order_exists_for_its_owner_and_not_for_others(
    shop: Shop, ada: str, bob: str, call: Callable[[Orders, str], Awaitable[Any]]
) -> None:
    product = await shop.new_product()
    order = await shop.orders_of(ada).CreateOrder(new_order("", (product, 1)))
    assert order.user_id == ada
    hidden = await refusal(call(shop.orders_of(bob), order.order_id))
    assert (hidden.code, hidden.reason) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert await shop.get_order(order.order_id) == order
    if call is CALLS["CancelOrder"]:
        refused = await refusal(call(shop.orders_of(ada), order.order_id))
        assert refused.reason == "ORDER_NOT_CANCELLABLE"
    else:
        await call(shop.orders_of(ada), order.order_id)
        await call(shop.orders, order.order_id)


async def test_customers_list_their_own_orders(shop: Shop, ada: str, bob: str) -> None:
    product = await shop.new_product()
    for user_id in (ada, bob):
        await shop.orders_of(user_id).CreateOrder(new_order("", (product, 1), key=user_id))
    for user_id in (ada, bob):
        for named in ("", user_id):
            request = order_pb2.ListOrdersRequest(user_id=named)
            page = await _first(shop.orders_of(user_id).ListOrders(request))
            assert [order.user_id for order in page.orders] == [user_id]


async def test_customers_act_for_nobody_else(shop: Shop, ada: str, bob: str) -> None:
    product = await shop.new_product()
    orders = shop.orders_of(ada)
    calls: list[Awaitable[object]] = [
        _first(orders.ListOrders(order_pb2.ListOrdersRequest(user_id=bob))),
        orders.CreateOrder(new_order(bob, (product, 1))),
    ]
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_MISSING",
        )
    placed = [new_order(user_id, (product, 1), key=f"for {user_id}") for user_id in (bob, "")]
    chunk = new_chunk(1, *placed)
    (response,) = [each async for each in orders.CreateOrders(iter([chunk]))]
    assert reasons(response) == ["ROLE_MISSING", ""]
    assert await shop.stock(product) == (9, 0, 1)


async def test_staff_place_orders_for_a_user(shop: Shop, ada: str) -> None:
    product = await shop.new_product()
    order = await shop.orders.CreateOrder(new_order(ada, (product, 1)))
    assert order.user_id == ada
