"""The events of orders: as a history, and as streams that can be resumed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from chassis.testing import refusal
from services.order.testing import CARD, DECLINED_CARD, Shop, Urls, new_order, read

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"
CONFIRMED = ["PENDING", "PAYING", "CONFIRMED"]


async def place(shop: Shop, *, key: str = "k", payment_method: str = CARD) -> str:
    """Place an order and return its id."""
    user, product = await shop.new_user(f"{key}@example.com"), await shop.new_product(sku=key)
    request = new_order(user, (product, 1), key=key, payment_method=payment_method)
    if payment_method == CARD:
        return (await shop.orders.CreateOrder(request)).order_id
    return (await refusal(shop.orders.CreateOrder(request))).metadata["order_id"]


async def update(shop: Shop, order_id: str, state: order_pb2.OrderState.ValueType) -> None:
    request = order_pb2.UpdateOrderStatusRequest(order_id=order_id, state=state)
    await shop.orders.UpdateOrderStatus(request)


def name(event: order_pb2.OrderEvent) -> str:
    return order_pb2.OrderState.Name(event.state).removeprefix("ORDER_STATE_")


def watch(
    shop: Shop, order_id: str, resume_token: str = ""
) -> AsyncIterator[order_pb2.WatchOrderResponse]:
    request = order_pb2.WatchOrderRequest(order_id=order_id, resume_token=resume_token)
    return aiter(shop.orders.WatchOrder(request))


def watch_all(shop: Shop, resume_token: str = "") -> AsyncIterator[order_pb2.WatchOrdersResponse]:
    return aiter(shop.orders.WatchOrders(order_pb2.WatchOrdersRequest(resume_token=resume_token)))


async def test_list_order_events_returns_the_history(shop: Shop) -> None:
    order_id = await place(shop, payment_method=DECLINED_CARD)
    request = order_pb2.ListOrderEventsRequest(order_id=order_id, page_size=3)
    (first,) = [each async for each in shop.orders.ListOrderEvents(request)]
    assert [name(event) for event in first.events] == ["PENDING", "PAYING", "CANCELLING"]
    assert first.events[2].refusal_reason == "PAYMENT_DECLINED"
    request.page_token = first.next_page_token
    (last,) = [each async for each in shop.orders.ListOrderEvents(request)]
    assert [(name(event), event.version) for event in last.events] == [("CANCELLED", 4)]
    assert not last.next_page_token


async def test_the_events_of_an_unknown_order_are_not_found(shop: Shop) -> None:
    request = order_pb2.ListOrderEventsRequest(order_id=UNKNOWN_ID)
    refused = await refusal(anext(aiter(shop.orders.ListOrderEvents(request))))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    refused = await refusal(anext(watch(shop, UNKNOWN_ID)))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_watch_order_sends_what_was_and_what_comes_and_ends_with_the_final_state(
    shop: Shop,
) -> None:
    order_id = await place(shop)
    watching = watch(shop, order_id)
    assert [name((await anext(watching)).event) for _ in CONFIRMED] == CONFIRMED
    await update(shop, order_id, order_pb2.ORDER_STATE_SHIPPED)
    shipped = await anext(watching)
    assert name(shipped.event) == "SHIPPED"
    await update(shop, order_id, order_pb2.ORDER_STATE_DELIVERED)
    assert [name(each.event) async for each in watching] == ["DELIVERED"]
    resumed = [each async for each in watch(shop, order_id, shipped.resume_token)]
    assert [name(each.event) for each in resumed] == ["DELIVERED"]
    async with asyncio.timeout(10):
        assert [each async for each in watch(shop, order_id, resumed[0].resume_token)] == []


async def test_watch_orders_sends_the_events_of_all_orders(shop: Shop) -> None:
    watching = watch_all(shop)
    first = await place(shop, key="first")
    found = [await anext(watching) for _ in CONFIRMED]
    assert [(each.event.order_id, name(each.event)) for each in found] == [
        (first, state) for state in CONFIRMED
    ]
    second = await place(shop, key="second")
    more = [await anext(watching) for _ in CONFIRMED]
    assert {each.event.order_id for each in more} == {second}
    resumed = watch_all(shop, found[1].resume_token)
    again = [await anext(resumed) for _ in range(4)]
    assert [each.event.event_id for each in again] == [
        each.event.event_id for each in [*found, *more][2:6]
    ]


async def test_a_resume_token_of_another_order_is_rejected(shop: Shop) -> None:
    first, second = await place(shop, key="first"), await place(shop, key="second")
    token = (await anext(watch(shop, first))).resume_token
    for watching in (watch(shop, second, token), watch_all(shop, token), watch_all(shop, "x")):
        refused = await refusal(anext(watching))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_event_is_not_sent_before_one_of_an_older_transaction(
    shop: Shop, urls: Urls
) -> None:
    """Otherwise a reader that resumes would miss the event that is committed late."""
    watching = watch_all(shop)
    insert = (
        "INSERT INTO order_events (order_id, version, state, cause)"
        " VALUES (gen_random_uuid(), 1, 'PENDING', 'CLIENT') RETURNING order_id::text"
    )
    with psycopg.connect(urls["order"]) as slow:
        ((late,),) = slow.execute(insert).fetchall()
        placed = await place(shop)
        receiving = asyncio.ensure_future(anext(watching))
        assert not (await asyncio.wait([receiving], timeout=0.3))[0]
        slow.commit()
    first = await receiving
    assert first.event.order_id == late
    assert (await anext(watching)).event.order_id == placed


async def test_a_watcher_of_one_order_does_not_wait_for_other_transactions(
    shop: Shop, urls: Urls
) -> None:
    order_id = await place(shop)
    watching = watch(shop, order_id)
    for _ in CONFIRMED:
        await anext(watching)
    # The first time, all watchers are woken.
    await update(shop, order_id, order_pb2.ORDER_STATE_SHIPPED)
    assert name((await anext(watching)).event) == "SHIPPED"
    with psycopg.connect(urls["user"]) as slow:
        slow.execute("SELECT pg_current_xact_id()")
        await update(shop, order_id, order_pb2.ORDER_STATE_DELIVERED)
        async with asyncio.timeout(10):
            assert name((await anext(watching)).event) == "DELIVERED"


async def test_a_watcher_of_another_process_is_woken(shop: Shop, urls: Urls) -> None:
    """The second process is represented by a connection that notifies and writes."""
    order_id = await place(shop)
    watching = watch(shop, order_id)
    for _ in CONFIRMED:
        await anext(watching)
    with psycopg.connect(urls["order"]) as other:
        other.execute(
            "INSERT INTO order_events (order_id, version, state, cause)"
            " VALUES (%s, 4, 'SHIPPED', 'CLIENT')",
            (order_id,),
        )
        other.execute("NOTIFY order_events")
    assert name((await anext(watching)).event) == "SHIPPED"


async def test_watchers_end_when_the_server_drains(shop: Shop) -> None:
    order_id = await place(shop)
    watching, everything = watch(shop, order_id), watch_all(shop)
    for _ in CONFIRMED:
        await asyncio.gather(anext(watching), anext(everything))
    shop.draining.set()
    stopping = asyncio.create_task(shop.stop("order", grace_seconds=10))
    refused = [await refusal(anext(stream)) for stream in (watching, everything)]
    await stopping
    assert [each.reason for each in refused] == ["SERVER_STOPPING"] * 2


async def test_many_watchers_take_one_connection(shop: Shop, urls: Urls) -> None:
    order_id = await place(shop)
    streams: list[AsyncIterator[Any]] = [watch(shop, order_id) for _ in range(100)]
    streams += [watch_all(shop) for _ in range(100)]
    for _ in CONFIRMED:
        await asyncio.gather(*(anext(stream) for stream in streams))
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    assert read(urls["order"], query)[0][0] == 1
    await update(shop, order_id, order_pb2.ORDER_STATE_SHIPPED)
    shipped = await asyncio.gather(*(anext(stream) for stream in streams))
    assert {name(each.event) for each in shipped} == {"SHIPPED"}


@pytest.mark.parametrize("page_size", [0, 1])
async def test_a_stuck_order_is_listed_and_redriven(shop: Shop, urls: Urls, page_size: int) -> None:
    order_id = await place(shop)
    with psycopg.connect(urls["order"]) as connection:
        connection.execute(
            "UPDATE orders SET state = 'PAYING', payment_id = NULL, next_at = 'infinity',"
            " failing_since = now(), failure = 'ValueError: poison'"
        )
    request = order_pb2.ListStuckOrdersRequest(page_size=page_size)
    (page,) = [each async for each in shop.orders.ListStuckOrders(request)]
    (stuck,) = page.stuck_orders
    assert (stuck.order_id, stuck.failure) == (order_id, "ValueError: poison")
    await shop.orders.RedriveOrder(order_pb2.RedriveOrderRequest(order_id=order_id))
    assert [each.stuck_orders async for each in shop.orders.ListStuckOrders(request)] == [[]]
    await shop.worker.run()
    assert read(urls["order"], "SELECT state FROM orders") == [("CONFIRMED",)]


async def test_redriving_an_unknown_order_is_not_found(shop: Shop) -> None:
    request = order_pb2.RedriveOrderRequest(order_id=UNKNOWN_ID)
    refused = await refusal(shop.orders.RedriveOrder(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND
