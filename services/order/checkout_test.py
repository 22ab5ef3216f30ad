"""The order protocol with lost messages, stopped services and concurrent processes."""

import asyncio
from collections.abc import Sequence

import pytest

from bazaar.order.v1 import order_pb2
from chassis.testing import refusal
from services.order import servicer
from services.order.domain import Order
from services.order.peers import StockResults
from services.order.testing import (
    COMPENSATIONS,
    DECLINED_CARD,
    STEPS,
    Shop,
    Urls,
    audit,
    lose,
    make_due,
    new_order,
    read,
    states,
)

pytest_plugins = ("tools.postgres.testing", "services.order.testing")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_repeated_request_finishes_an_order_after_a_lost_message(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    shop.hooks[f"{side} {step}"] = lose
    call = shop.orders.CreateOrder(request)
    accepted = await call
    assert accepted.state in {order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_PAYING}
    assert ("retry-after", "1") in list(await call.trailing_metadata())
    assert audit(urls) != []
    shop.hooks.clear()
    order = await shop.orders.CreateOrder(request)
    assert order.order_id == accepted.order_id
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


@pytest.mark.parametrize("step", COMPENSATIONS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_repeated_request_finishes_the_compensation_of_a_declined_order(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2), payment_method=DECLINED_CARD)
    shop.hooks[f"{side} {step}"] = lose
    accepted = await shop.orders.CreateOrder(request)
    assert accepted.state == order_pb2.ORDER_STATE_CANCELLING
    assert states(urls) == ["CANCELLING"]
    shop.hooks.clear()
    assert (await refusal(shop.orders.CreateOrder(request))).reason == "PAYMENT_DECLINED"
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


@pytest.mark.parametrize(
    ("name", "point", "state"),
    [
        ("product", "before reserve_stock", "PENDING"),
        ("payment", "before charge", "PAYING"),
        ("product", "after charge", "PAYING"),
    ],
)
async def test_an_order_waits_for_a_service_that_is_down(
    shop: Shop, urls: Urls, name: str, point: str, state: str
) -> None:
    ports: list[int] = []

    async def stop() -> None:
        ports.append(await shop.stop(name))

    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    shop.hooks.once(point, stop)
    accepted = await shop.orders.CreateOrder(request)
    assert order_pb2.OrderState.Name(accepted.state) == f"ORDER_STATE_{state}"
    assert states(urls) == [state]
    await shop.start(name, ports[0])
    order = await shop.orders.CreateOrder(request, wait_for_ready=True)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


async def test_concurrent_requests_with_one_key_are_one_order_and_one_charge(
    shop: Shop, urls: Urls
) -> None:
    product = await shop.new_product(units=100)
    request = new_order(await shop.new_user(), (product, 1))
    orders = await asyncio.gather(*(shop.orders.CreateOrder(request) for _ in range(20)))
    assert len({order.order_id for order in orders}) == 1
    assert {order.state for order in orders} == {order_pb2.ORDER_STATE_CONFIRMED}
    assert await shop.stock(product) == (99, 0, 1)
    assert audit(urls) == []


async def test_concurrent_chunks_that_overlap_are_one_order_per_key(shop: Shop, urls: Urls) -> None:
    user_id, product = await shop.new_user(), await shop.new_product(units=100)
    orders = [new_order(user_id, (product, 1), key=f"key {number}") for number in range(60)]

    async def send(part: list[order_pb2.CreateOrderRequest]) -> set[str]:
        chunk = order_pb2.CreateOrdersRequest(orders=part)
        (response,) = [each async for each in shop.orders.CreateOrders(iter([chunk]))]
        return {result.order.order_id for result in response.results}

    parts = [orders[:40], orders[20:][::-1], orders[10:50], orders[::-1]]
    found = await asyncio.gather(*(send(part) for part in parts))
    assert len(set().union(*found)) == 60
    assert await shop.stock(product) == (40, 0, 60)
    assert audit(urls) == []


async def test_concurrent_orders_never_oversell(shop: Shop, urls: Urls) -> None:
    product = await shop.new_product(units=7)
    user_id = await shop.new_user()
    requests = [new_order(user_id, (product, 2), key=f"key {number}") for number in range(12)]
    results = await asyncio.gather(
        *(shop.orders.CreateOrder(request) for request in requests), return_exceptions=True
    )
    assert sum(isinstance(result, order_pb2.Order) for result in results) == 3
    assert await shop.stock(product) == (1, 0, 6)
    assert audit(urls) == []


async def test_an_order_is_not_confirmed_before_its_stock_is_committed(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def commit_nothing(_orders: Sequence[Order]) -> StockResults:
        return {}

    request = new_order(await shop.new_user(), (await shop.new_product(), 2))
    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "commit_stock", commit_nothing)
        accepted = await shop.orders.CreateOrder(request)
    assert accepted.state == order_pb2.ORDER_STATE_PAYING
    order = await shop.orders.CreateOrder(request)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert audit(urls) == []


async def test_an_order_takes_seven_commits(shop: Shop, urls: Urls) -> None:
    """Transactions that write have numbers: 3 of the order service, 2 of the product service, 2 of
    the payment service, and 2 of the sandbox, which stands for a remote system. A notification has
    one as well, though it writes nothing."""
    for task in shop.tasks["order"]:
        await task.stop()
    product, user_id = await shop.new_product(), await shop.new_user()
    query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    counted = []
    for number in range(3):
        ((before,),) = read(urls["order"], query)
        await shop.orders.CreateOrder(new_order(user_id, (product, 1), key=f"{number}"))
        ((after,),) = read(urls["order"], query)
        counted.append(after - before)
    # The server may analyze a table meanwhile.
    assert min(counted) == 7 + 2


async def test_an_order_that_takes_long_is_returned_as_it_is_and_finished_by_the_worker(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "DRIVE_SECONDS", 0.1)

    async def block() -> None:
        await asyncio.Event().wait()

    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    shop.hooks["before charge"] = block
    accepted = await shop.orders.CreateOrder(request)
    assert accepted.state == order_pb2.ORDER_STATE_PAYING
    shop.hooks.clear()
    query = "SELECT lease_until, next_at < now() + interval '2 seconds' FROM orders"
    assert read(urls["order"], query) == [(None, True)]
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED"]
    assert audit(urls) == []
