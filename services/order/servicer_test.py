"""The methods of OrderService that read and change orders, through a channel.

Those that create orders are in `create_order_test` and `chunks_test`.
"""

import asyncio
import uuid
from collections.abc import Sequence

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from chassis import call_context
from chassis.database import Database
from chassis.testing import bytes_kept, held_back, refusal
from chassis.transport import MAX_MESSAGE_BYTES
from services.order import repository
from services.order.domain import Line, NewOrder
from services.order.event_log import EventLog
from services.order.servicer import OrderServicer
from services.order.testing import Shop, Urls, audit, new_order
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing", "services.order.testing")
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


async def list_orders(
    shop: Shop, user_id: str, page_size: int = 0, page_token: str = ""
) -> list[order_pb2.ListOrdersResponse]:
    request = order_pb2.ListOrdersRequest(
        user_id=user_id, page_size=page_size, page_token=page_token
    )
    return [page async for page in shop.orders.ListOrders(request)]


async def insert_orders(url: str, orders: Sequence[NewOrder]) -> None:
    database = Database(app_url(url))
    await database.open()
    async with database.transaction() as connection:
        await repository.accept_orders(connection, orders)
    await database.close()


async def update(shop: Shop, order_id: str, state: str) -> order_pb2.Order:
    request = order_pb2.UpdateOrderStatusRequest(
        order_id=order_id, state=order_pb2.OrderState.Value(f"ORDER_STATE_{state}")
    )
    return await shop.orders.UpdateOrderStatus(request)


async def test_get_order_of_a_missing_id_is_not_found(shop: Shop) -> None:
    refused = await refusal(shop.get_order(UNKNOWN_ID))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")


async def test_list_orders_pages_newest_first(shop: Shop) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    other = await shop.new_user("bob@example.com")
    orders = [
        await shop.orders.CreateOrder(new_order(user_id, (product, 1), key=f"key {number}"))
        for number in range(5)
    ]
    await shop.orders.CreateOrder(new_order(other, (product, 1)))
    found: list[order_pb2.Order] = []
    token = ""
    for expected in (2, 2, 1):
        (page,) = await list_orders(shop, user_id, page_size=2, page_token=token)
        assert len(page.orders) == expected
        found += page.orders
        token = page.next_page_token
    assert token == ""
    assert found == orders[::-1]


async def test_list_orders_rejects_the_page_token_of_another_user(shop: Shop) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    for key in ("one", "two"):
        await shop.orders.CreateOrder(new_order(user_id, (product, 1), key=key))
    (page,) = await list_orders(shop, user_id, page_size=1)
    refused = await refusal(list_orders(shop, UNKNOWN_ID, page_token=page.next_page_token))
    assert refused.reason == "INVALID_PAGE_TOKEN"


async def test_list_orders_of_a_missing_user_is_one_empty_page(shop: Shop) -> None:
    assert await list_orders(shop, UNKNOWN_ID) == [order_pb2.ListOrdersResponse()]


async def test_list_orders_splits_pages_that_exceed_a_message(shop: Shop, urls: Urls) -> None:
    lines = tuple(Line(uuid.UUID(int=number), 1) for number in range(1_000))
    user_id = uuid.UUID(UNKNOWN_ID)
    orders = [NewOrder(user_id, f"key {number}", "pm", lines) for number in range(130)]
    await insert_orders(urls["order"], orders)
    pages = await list_orders(shop, UNKNOWN_ID, page_size=1_000)
    assert sum(page.ByteSize() for page in pages) > MAX_MESSAGE_BYTES
    found = [order for page in pages for order in page.orders]
    assert [order.idempotency_key for order in found] == [
        order.idempotency_key for order in orders
    ][::-1]
    for number, page in enumerate(pages[:-1], start=1):
        rest = await list_orders(shop, UNKNOWN_ID, 1_000, page.next_page_token)
        assert rest == pages[number:]
    assert pages[-1].next_page_token == ""


async def test_list_orders_retains_nothing_while_the_client_does_not_read(
    shop: Shop, urls: Urls
) -> None:
    lines = (Line(uuid.UUID(int=1), 1),)
    user_id = uuid.UUID(UNKNOWN_ID)
    orders = [NewOrder(user_id, f"key {number}", "pm", lines) for number in range(501)]
    await insert_orders(urls["order"], orders)
    database = Database(app_url(urls["order"]))
    await database.open()
    event_log = EventLog(database, shop.draining)
    servicer = OrderServicer(database, shop.checkout, shop.refunds, event_log, shop.draining)
    call_context.set_caller(await shop.issuer.verifier().verify(shop.issuer.token()))
    request = order_pb2.ListOrdersRequest(user_id=UNKNOWN_ID, page_size=1_000)
    kept = await bytes_kept(servicer.ListOrders, request)
    await database.close()
    assert kept < 45_000, "less than 90 bytes an order"


async def test_update_order_status_ships_and_delivers(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    order = await shop.orders.CreateOrder(request)
    shipped = await update(shop, order.order_id, "SHIPPED")
    assert shipped.state == order_pb2.ORDER_STATE_SHIPPED
    assert await update(shop, order.order_id, "SHIPPED") == shipped
    delivered = await update(shop, order.order_id, "DELIVERED")
    assert delivered.state == order_pb2.ORDER_STATE_DELIVERED
    assert await shop.orders.CreateOrder(request) == delivered


async def test_update_order_status_rejects_other_transitions(shop: Shop) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    order = await shop.orders.CreateOrder(request)
    refused = await refusal(update(shop, order.order_id, "DELIVERED"))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ILLEGAL_STATE_CHANGE",
    )
    assert await shop.get_order(order.order_id) == order


async def test_update_order_status_sees_a_concurrent_change(shop: Shop, urls: Urls) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    order = await shop.orders.CreateOrder(request)
    change = "UPDATE orders SET state = 'DELIVERED', version = version + 1"
    async with held_back(urls["order"], change):
        updating = asyncio.ensure_future(refusal(update(shop, order.order_id, "SHIPPED")))
    assert (await updating).reason == "ILLEGAL_STATE_CHANGE"
    assert (await shop.get_order(order.order_id)).state == order_pb2.ORDER_STATE_DELIVERED


@pytest.mark.parametrize("state", ["UNSPECIFIED", "PENDING", "PAYING", "CANCELLED"])
async def test_update_order_status_accepts_shipped_and_delivered_only(
    shop: Shop, state: str
) -> None:
    refused = await refusal(update(shop, UNKNOWN_ID, state))
    assert (refused.fields, refused.metadata["http_status"]) == (["state"], "422")


async def test_update_order_status_of_a_missing_id_is_not_found(shop: Shop) -> None:
    assert (await refusal(update(shop, UNKNOWN_ID, "SHIPPED"))).reason == "ORDER_NOT_FOUND"


async def test_cancel_order_rejects_a_confirmed_order(shop: Shop, urls: Urls) -> None:
    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    order = await shop.orders.CreateOrder(request)
    cancel = order_pb2.CancelOrderRequest(order_id=order.order_id)
    refused = await refusal(shop.orders.CancelOrder(cancel))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ORDER_NOT_CANCELLABLE",
    )
    assert await shop.get_order(order.order_id) == order
    assert audit(urls) == []
