"""What staff do with orders is in the audit log; what customers and the shop itself do is not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import json_format

from bazaar.order.v1 import order_pb2
from chassis.audit_testing import find_changes_by_staff
from services.order.main import SERVICE
from services.order.testing import Shop, lose, new_order, new_refund

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

WAITING = "pm_sandbox_action"
"""The payment method of an order that its customer has to approve."""

Event = tuple[str, str, dict[str, Any], dict[str, Any]]


async def list_events(shop: Shop) -> list[Event]:
    """Return the events, oldest first: the RPC, the resource, and what was before and after."""
    call = shop.orders.ListAuditEvents(order_pb2.ListAuditEventsRequest())
    events = [event async for page in call for event in page.audit_events]
    return [
        (
            event.method.rpartition("/")[2],
            event.resource,
            json_format.MessageToDict(event.before),
            json_format.MessageToDict(event.after),
        )
        for event in reversed(events)
    ]


async def place_in_stream(shop: Shop, *orders: order_pb2.CreateOrderRequest) -> list[str]:
    """Place orders in one chunk, and return their ids."""

    async def send() -> AsyncIterator[order_pb2.CreateOrdersRequest]:
        yield order_pb2.CreateOrdersRequest(seq=1, orders=orders)

    responses = [response async for response in shop.orders.CreateOrders(send())]
    return [result.order.order_id for response in responses for result in response.results]


def states(events: list[Event]) -> list[tuple[str, object, object]]:
    """Return the RPCs, and the states before and after."""
    return [
        (method, before.get("state"), after.get("state")) for method, _, before, after in events
    ]


def refund_of(refund: order_pb2.Refund, state: str) -> dict[str, Any]:
    """Return a refund as it was in a state, without the time of its last change."""
    found: dict[str, Any] = json_format.MessageToDict(refund)
    return {**found, "state": state, "updateTime": found["createTime"]}


async def test_each_change_of_an_order_by_staff_is_recorded(shop: Shop) -> None:
    order_id, _ = await shop.buy()
    for _ in range(2):
        await shop.update_status(order_id, "SHIPPED")
        refund = await shop.orders.RefundOrder(new_refund(order_id, 3))
    events = await list_events(shop)
    assert states(events) == [
        ("CreateOrder", None, "ORDER_STATE_PENDING"),
        ("UpdateOrderStatus", "ORDER_STATE_CONFIRMED", "ORDER_STATE_SHIPPED"),
        ("RefundOrder", None, "REFUND_STATE_PENDING"),
    ]
    name = f"orders/{order_id}"
    assert [resource for _, resource, _, _ in events] == [name, name, f"{name}/refunds/1"]
    assert events[2][3] == refund_of(refund, "REFUND_STATE_PENDING")


async def test_each_rpc_with_which_staff_change_something_is_recorded(shop: Shop) -> None:
    product = await shop.new_product()
    user_id = await shop.new_user()
    waiting = new_order(user_id, (product, 1), key="waiting", payment_method=WAITING)
    waiting_id = (await shop.orders.CreateOrder(waiting)).order_id
    (order_id,) = await place_in_stream(shop, new_order(user_id, (product, 1)))
    await shop.orders.RedriveOrder(order_pb2.RedriveOrderRequest(order_id=waiting_id))
    await shop.orders.CancelOrder(order_pb2.CancelOrderRequest(order_id=waiting_id))
    await shop.update_status(order_id, "SHIPPED")
    await shop.orders.RefundOrder(new_refund(order_id))
    recorded = {method for method, _, _, _ in await list_events(shop)}
    assert recorded == find_changes_by_staff(SERVICE.descriptor)


async def test_an_order_that_staff_place_again_is_recorded_once(shop: Shop) -> None:
    product = await shop.new_product()
    user_id = await shop.new_user()
    first, second = (new_order(user_id, (product, 1), key=key) for key in "ab")
    await shop.orders.CreateOrder(first)
    placed = await place_in_stream(shop, first, second)
    events = await list_events(shop)
    assert [(method, resource) for method, resource, _, _ in events] == [
        ("CreateOrder", f"orders/{placed[0]}"),
        ("CreateOrders", f"orders/{placed[1]}"),
    ]
    assert [after["userId"] for _, _, _, after in events] == [user_id, user_id]


async def test_a_cancellation_is_recorded_without_the_secrets_of_the_payment(shop: Shop) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 1), payment_method=WAITING)
    waiting = await shop.orders.CreateOrder(request)
    assert waiting.payment_action.client_secret
    await shop.orders.CancelOrder(order_pb2.CancelOrderRequest(order_id=waiting.order_id))
    events = await list_events(shop)
    assert states(events)[1:] == [
        ("CancelOrder", "ORDER_STATE_PAYING", "ORDER_STATE_CANCELLING"),
    ]
    assert waiting.payment_action.client_secret not in str(events)


async def test_an_order_that_is_made_due_is_recorded(shop: Shop) -> None:
    shop.hooks["before charge"] = lose
    product = await shop.new_product()
    created = await shop.orders.CreateOrder(new_order(await shop.new_user(), (product, 1)))
    redrive = order_pb2.RedriveOrderRequest(order_id=created.order_id)
    await shop.orders.RedriveOrder(redrive)
    del shop.hooks["before charge"]
    await shop.worker.run()
    final = await shop.orders.RedriveOrder(redrive)
    assert final.state == order_pb2.ORDER_STATE_CONFIRMED
    assert states(await list_events(shop))[1:] == [
        ("RedriveOrder", "ORDER_STATE_PAYING", "ORDER_STATE_PAYING"),
    ]


@pytest.mark.parametrize("payment_method", ["pm_card_visa", WAITING])
async def test_what_customers_do_is_not_recorded(shop: Shop, payment_method: str) -> None:
    product = await shop.new_product()
    user_id = await shop.new_user()
    customer = shop.orders_of(user_id)
    request = new_order("", (product, 1), payment_method=payment_method)
    order = await customer.CreateOrder(request)
    if order.HasField("payment_action"):
        cancel = order_pb2.CancelOrderRequest(order_id=order.order_id)
        order = await customer.CancelOrder(cancel)
    assert order.state in {order_pb2.ORDER_STATE_CONFIRMED, order_pb2.ORDER_STATE_CANCELLED}
    assert await list_events(shop) == []
