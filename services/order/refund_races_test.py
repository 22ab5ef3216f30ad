"""Refunds, shipments and processes that race: each refund is made once, of what remains."""

import asyncio
import uuid

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from chassis.database import Database
from chassis.testing import Events, read_refusal, refusal, wait_for_blocked
from services.order import refund_repository, repository
from services.order.event import Cause
from services.order.refund import NewRefund, RefundState, begin, settle
from services.order.refund_testing import at_provider, pounds
from services.order.testing import (
    REFUND_STEPS,
    Shop,
    Urls,
    audit,
    execute,
    lose,
    make_due,
    new_refund,
    read,
)
from services.payment.testing import expire_keys
from tools.postgres.testing import app_url

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.order.testing")

SUCCEEDED = order_pb2.REFUND_STATE_SUCCEEDED


@pytest.mark.parametrize("step", REFUND_STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_two_processes_that_drive_a_refund_make_it_once(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    """While the first waits at a point, the provider forgets its keys, and the worker finishes."""
    order_id, product_id = await shop.buy()

    async def run_worker() -> None:
        del shop.hooks[f"{side} {step}"]
        expire_keys(urls["payment"])
        execute(urls["order"], "UPDATE orders SET lease_until = now()")
        await shop.worker.run()
        assert (await shop.list_refunds(order_id))[0].state == SUCCEEDED
        expire_keys(urls["payment"])

    shop.hooks[f"{side} {step}"] = run_worker
    refund = await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1)))
    assert refund.state == SUCCEEDED
    assert await shop.stock(product_id) == (7, 0, 3)
    assert at_provider(urls) == (1, 5_00)
    query = "SELECT count(*) FROM order_events WHERE details ? 'refund'"
    assert read(urls["order"], query) == [(2,)]
    assert audit(urls) == []


async def test_concurrent_refunds_never_exceed_the_total(shop: Shop, urls: Urls) -> None:
    order_id, product_id = await shop.buy()
    requests = [new_refund(order_id, 5, (product_id, 1), key=f"{n}") for n in range(6)]
    calls = [shop.orders.RefundOrder(request) for request in requests]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [read_refusal(each) for each in results if isinstance(each, grpc.aio.AioRpcError)]
    assert {each.reason for each in refused} == {"REFUND_EXCEEDS_TOTAL"}
    assert len(refused) == 4
    assert (await shop.get_order(order_id)).refunded_amount == pounds(10)
    assert at_provider(urls) == (2, 10_00)
    assert audit(urls) == []


@pytest.mark.parametrize(
    ("request_", "reason"), [("refund", "REFUND_EXCEEDS_TOTAL"), ("shipment", "ORDER_REFUNDED")]
)
async def test_who_changes_an_order_waits_for_a_refund_that_is_being_accepted(
    shop: Shop, urls: Urls, request_: str, reason: str
) -> None:
    order_id, _ = await shop.buy()
    new = NewRefund("full", None, ())
    database = Database(app_url(urls["order"]))
    await database.open()
    async with database.connection() as watching, database.transaction() as other:
        order = await repository.get_order(other, uuid.UUID(order_id), lock=True)
        changed, amount = begin(order, new, {})
        accepted = await refund_repository.accept_refund(other, order.order_id, new, amount)
        await refund_repository.note(other, [(changed, accepted)], Cause.CLIENT)
        if request_ == "refund":
            call = shop.orders.RefundOrder(new_refund(order_id, 5))
            waiting = asyncio.create_task(refusal(call))
        else:
            waiting = asyncio.create_task(refusal(shop.update_status(order_id, "SHIPPED")))
        await wait_for_blocked(watching)
    assert (await waiting).reason == reason
    await database.close()
    make_due(urls)
    await shop.worker.run()
    assert at_provider(urls) == (1, 12_00)
    assert audit(urls) == []


async def test_concurrent_requests_with_one_key_are_one_refund(shop: Shop, urls: Urls) -> None:
    order_id, product_id = await shop.buy()
    request = new_refund(order_id, 5, (product_id, 1))
    refunds = await asyncio.gather(*(shop.orders.RefundOrder(request) for _ in range(8)))
    assert {refund.number for refund in refunds} == {1}
    assert at_provider(urls) == (1, 5_00)
    assert await shop.stock(product_id) == (7, 0, 3)
    assert audit(urls) == []


async def test_a_refund_that_another_process_is_settling_is_settled_once(
    shop: Shop, urls: Urls, events: Events
) -> None:
    order_id = uuid.UUID((await shop.buy())[0])
    shop.hooks["before refund_payments"] = lose
    await shop.orders.RefundOrder(new_refund(str(order_id), 5))
    shop.hooks.clear()
    database = Database(app_url(urls["order"]))
    await database.open()
    async with database.connection() as watching, database.transaction() as other:
        orders = await refund_repository.lock_orders(other, [order_id])
        (pending,) = await refund_repository.find_pending(other, [(order_id, 1)])
        changed, settled = settle(orders[order_id], pending, RefundState.SUCCEEDED)
        await refund_repository.settle_refunds(other, [settled])
        await refund_repository.note(other, [(changed, settled)], Cause.WORKER)
        driving = asyncio.create_task(shop.refunds.drive([order_id]))
        await wait_for_blocked(watching)
    await driving
    await database.close()
    assert [event for event in events if event["log_level"] == "error"] == []
    assert audit(urls) == []
