"""Orders that are stuck: staff are alarmed, see why they wait, and can redrive those parked."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import LiteralString

import pytest

from bazaar.order.v1 import order_pb2
from chassis import client
from chassis.service import Resources
from chassis.testing import Events
from services.order.domain import Order, Payment
from services.order.main import make_servicer
from services.order.peers import RefundResults
from services.order.refund import Refund, RefundState
from services.order.settings import OrderSettings
from services.order.testing import (
    Shop,
    Urls,
    audit,
    execute,
    lose,
    make_due,
    new_order,
    new_refund,
    states,
)

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.order.testing")

NEEDS_CUSTOMER = "pm_sandbox_action"
Payments = dict[uuid.UUID, Payment]


def let_time_pass(urls: Urls) -> None:
    """Make all that happened so far happen 8 minutes ago."""
    execute(
        urls["order"],
        "UPDATE orders SET update_time = update_time - interval '8 minutes',"
        " failing_since = failing_since - interval '8 minutes',"
        " action_expire_time = action_expire_time - interval '8 minutes'",
    )


async def run_worker(shop: Shop, urls: Urls) -> None:
    make_due(urls)
    await shop.worker.run()


async def list_stuck(shop: Shop, page_size: int = 0) -> list[tuple[str, str, bool]]:
    """Return the ids of the orders that are stuck, their failures, and whether they are parked."""
    request = order_pb2.ListStuckOrdersRequest(page_size=page_size)
    found = [
        each async for page in shop.orders.ListStuckOrders(request) for each in page.stuck_orders
    ]
    return [(each.order_id, each.failure, each.parked) for each in found]


async def alarms(shop: Shop, events: Events) -> list[tuple[object, object]]:
    """Return how many orders the alarm reports now, and the oldest of them."""
    events.clear()
    await shop.worker.report_stuck()
    return [
        (each["orders"], each["oldest"])
        for each in events
        if (each["event"], each["log_level"]) == ("orders_stuck", "error")
    ]


async def place(shop: Shop, *keys: str, payment_method: str = "pm_card_visa") -> list[str]:
    """Place orders whose charges are lost, and return their ids."""
    product = await shop.new_product()
    user = await shop.new_user()
    shop.hooks["before charge"] = lose
    found = []
    for key in keys:
        request = new_order(user, (product, 1), key=key, payment_method=payment_method)
        found.append((await shop.orders.CreateOrder(request)).order_id)
    shop.hooks.clear()
    return found


async def test_an_order_that_keeps_failing_is_parked_and_the_others_go_on(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bad, _ = await place(shop, "good", "bad", "other")
    charge = shop.peers.charge

    async def poison(orders: Sequence[Order]) -> Payments:
        if any(order.idempotency_key == "bad" for order in orders):
            raise ValueError("poison\nwith a secret in its second line")
        return await charge(orders)

    monkeypatch.setattr(shop.peers, "charge", poison)
    for _ in range(2):
        await run_worker(shop, urls)
        assert await list_stuck(shop) == []
        let_time_pass(urls)
    assert await list_stuck(shop) == [(bad, "ValueError: poison", False)]
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED", "PAYING", "CONFIRMED"]
    assert await list_stuck(shop) == [(bad, "ValueError: poison", True)]


async def test_an_outage_never_parks_an_order(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a defect right after it."""
    await place(shop, "k")
    execute(
        urls["order"],
        "UPDATE orders SET failure = 'x', failing_since = now() - interval '1 hour'",
    )
    shop.hooks["before charge"] = lose
    await run_worker(shop, urls)
    shop.hooks.clear()

    async def fail(_orders: Sequence[Order]) -> Payments:
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "charge", fail)
        await run_worker(shop, urls)
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED"]


async def test_an_outage_of_15_minutes_is_shown_and_alarms_until_it_ends(
    shop: Shop, urls: Urls, events: Events
) -> None:
    first, second = await place(shop, "1", "2")
    shop.hooks["before charge"] = lose
    for _ in range(2):
        await run_worker(shop, urls)
        assert await list_stuck(shop) == []
        assert await alarms(shop, events) == []
        let_time_pass(urls)
    stuck = [(order_id, "PEER_UNAVAILABLE: lost", False) for order_id in (first, second)]
    for _ in range(2):
        assert await list_stuck(shop) == stuck
        assert await list_stuck(shop, page_size=1) == stuck[:1]
        assert await alarms(shop, events) == [(2, first)]
        await run_worker(shop, urls)
    shop.hooks.clear()
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED", "CONFIRMED"]
    assert await list_stuck(shop) == []
    assert await alarms(shop, events) == []


async def test_the_program_alarms_the_staff(shop: Shop, urls: Urls, events: Events) -> None:
    await place(shop, "k")
    for _ in range(2):
        let_time_pass(urls)
    database = shop.make_database("order")
    await database.open()
    async with client.open_channel("127.0.0.1:1") as nobody:
        channels = dict.fromkeys(("UserService", "ProductService", "PaymentService"), nobody)
        resources = Resources(database, OrderSettings(), channels)
        make_servicer(resources)
        for task in resources.tasks:
            task.start()
        async with asyncio.timeout(10):
            while not any(each["event"] == "orders_stuck" for each in events):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for task in resources.tasks:
            await task.stop()
    await database.close()


async def test_an_order_whose_payment_stays_unknown_is_stuck_but_not_parked(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = await place(shop, "k")

    async def find_nothing(_orders: Sequence[Order]) -> Payments:
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "charge", find_nothing)
        for _ in range(3):
            await run_worker(shop, urls)
            let_time_pass(urls)
    assert await list_stuck(shop) == [(order_id, "PAYMENT_UNKNOWN", False)]
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED"]


async def test_an_order_whose_stock_cannot_be_committed_is_parked(shop: Shop, urls: Urls) -> None:
    """No sequence of calls should lead to that; the other orders of the batch go on."""
    bad, _ = await place(shop, "bad", "other")
    shop.hooks["before commit_stock"] = lose
    await run_worker(shop, urls)
    shop.hooks.clear()
    first = "(SELECT min(order_id::text)::uuid FROM reservations)"
    execute(urls["product"], f"UPDATE reservations SET state = 'RELEASED' WHERE order_id = {first}")
    for _ in range(3):
        await run_worker(shop, urls)
        let_time_pass(urls)
    assert states(urls) == ["PAYING", "CONFIRMED"]
    ((stuck, failure, is_parked),) = await list_stuck(shop)
    assert (stuck, is_parked) == (bad, True)
    assert failure.startswith("CommitStock: ")


async def test_an_order_that_waits_for_its_customer_is_not_stuck(
    shop: Shop, urls: Urls, events: Events
) -> None:
    product, user = await shop.new_product(), await shop.new_user()
    await shop.orders.CreateOrder(new_order(user, (product, 1), payment_method=NEEDS_CUSTOMER))
    execute(urls["order"], "UPDATE orders SET update_time = now() - interval '1 hour'")
    assert await list_stuck(shop) == []
    assert await alarms(shop, events) == []
    execute(urls["order"], "UPDATE orders SET action_expire_time = now()")
    assert len(await list_stuck(shop)) == 1


async def test_an_order_whose_refund_waits_for_a_bank_is_not_stuck_for_days(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = await place(shop, "k")
    await run_worker(shop, urls)

    async def wait_for_bank(refunds: Sequence[Refund]) -> RefundResults:
        return {each.key: RefundState.PENDING for each in refunds}

    monkeypatch.setattr(shop.peers, "refund_payments", wait_for_bank)
    await shop.orders.RefundOrder(new_refund(order_id, 1))
    for _ in range(3):
        await run_worker(shop, urls)
        let_time_pass(urls)
    assert await list_stuck(shop) == []
    execute(urls["order"], "UPDATE orders SET update_time = update_time - interval '14 days'")
    assert await list_stuck(shop) == [(order_id, "REFUND_PENDING", False)]


async def test_a_refund_that_keeps_failing_parks_its_order(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refunds of other orders go on, and staff can have it tried again."""
    bad, good = await place(shop, "bad", "good")
    await run_worker(shop, urls)
    refund_payments = shop.peers.refund_payments

    async def poison(refunds: Sequence[Refund]) -> RefundResults:
        if any(str(refund.order_id) == bad for refund in refunds):
            raise ValueError("poison")
        return await refund_payments(refunds)

    shop.hooks["before refund_payments"] = lose
    for order_id in (bad, good):
        await shop.orders.RefundOrder(new_refund(order_id, 1))
    shop.hooks.clear()
    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "refund_payments", poison)
        for _ in range(3):
            await run_worker(shop, urls)
            let_time_pass(urls)
    assert await list_stuck(shop) == [(bad, "ValueError: poison", True)]
    await shop.orders.RedriveOrder(order_pb2.RedriveOrderRequest(order_id=bad))
    await shop.worker.run()
    assert [len(await shop.list_refunds(order_id)) for order_id in (bad, good)] == [1, 1]
    assert audit(urls) == []


@pytest.mark.parametrize(
    ("service", "break_", "mend", "failure"),
    [
        (
            "payment",
            "UPDATE payments SET currency_code = 'EUR'",
            "UPDATE payments SET currency_code = 'GBP'",
            "RefundPayments: CURRENCY_MISMATCH: ",
        ),
        (
            "product",
            "UPDATE reservations SET state = 'PINNED'",
            "UPDATE reservations SET state = 'COMMITTED'",
            "ReturnStock: ORDER_NOT_COMMITTED: ",
        ),
    ],
    ids=["payment", "product"],
)
async def test_a_refund_that_another_service_refuses_parks_its_order(
    shop: Shop,
    urls: Urls,
    service: str,
    break_: LiteralString,
    mend: LiteralString,
    failure: str,
) -> None:
    order_id, product_id = await shop.buy()
    execute(urls[service], break_)
    refund = await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1)))
    assert refund.state == order_pb2.REFUND_STATE_PENDING
    for _ in range(2):
        let_time_pass(urls)
        await run_worker(shop, urls)
    ((stuck, found, is_parked),) = await list_stuck(shop)
    assert (stuck, is_parked) == (order_id, True)
    assert found.startswith(failure)
    execute(urls[service], mend)
    await run_worker(shop, urls)
    assert [each.state for each in await shop.list_refunds(order_id)] == [refund.state]
    await shop.orders.RedriveOrder(order_pb2.RedriveOrderRequest(order_id=order_id))
    await shop.worker.run()
    assert await shop.stock(product_id) == (7, 0, 3)
    assert audit(urls) == []
