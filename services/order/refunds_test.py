"""Refunds with lost messages, dead processes, concurrency, and a provider that forgets keys."""

import asyncio
from collections.abc import Sequence
from typing import LiteralString

import grpc
import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from chassis.testing import refusal
from services.order import queue_repository, servicer
from services.order.peers import RefundResults
from services.order.refund import Refund, RefundState
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

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.order.testing")

PENDING = order_pb2.REFUND_STATE_PENDING
SUCCEEDED = order_pb2.REFUND_STATE_SUCCEEDED


@pytest.mark.parametrize("step", REFUND_STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("by", ["request", "worker"])
async def test_a_refund_is_finished_after_a_lost_message(
    shop: Shop, urls: Urls, side: str, step: str, by: str
) -> None:
    """The provider forgets all keys meanwhile."""
    order_id, product_id = await shop.buy()
    request = new_refund(order_id, 5, (product_id, 1))
    shop.hooks[f"{side} {step}"] = lose
    call = shop.orders.RefundOrder(request)
    accepted = await call
    assert accepted.state == PENDING
    assert ("retry-after", "1") in list(await call.trailing_metadata())
    assert audit(urls) != []
    shop.hooks.clear()
    expire_keys(urls["payment"])
    if by == "worker":
        make_due(urls)
        await shop.worker.run()
    else:
        await shop.orders.RefundOrder(request)
    (refund,) = await shop.list_refunds(order_id)
    assert (refund.number, refund.state) == (accepted.number, SUCCEEDED)
    assert await shop.stock(product_id) == (7, 0, 3)
    assert at_provider(urls) == (1, 5_00)
    assert audit(urls) == []


@pytest.mark.parametrize("step", REFUND_STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_refund_whose_process_has_died_is_finished_when_its_lease_ends(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch, side: str, step: str
) -> None:
    async def postpone_nothing(*_: object) -> None:
        """A process that is killed does not end its lease."""

    order_id, product_id = await shop.buy()
    shop.hooks[f"{side} {step}"] = lose
    with monkeypatch.context() as patch:
        patch.setattr(queue_repository, "postpone", postpone_nothing)
        await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1)))
    shop.hooks.clear()
    await shop.worker.run()
    assert [each.state for each in await shop.list_refunds(order_id)] == [PENDING]
    execute(urls["order"], "UPDATE orders SET lease_until = now()")
    await shop.worker.run()
    assert [each.state for each in await shop.list_refunds(order_id)] == [SUCCEEDED]
    assert await shop.stock(product_id) == (7, 0, 3)
    assert at_provider(urls) == (1, 5_00)
    assert audit(urls) == []


async def test_a_refund_whose_client_has_left_is_left_to_the_worker(shop: Shop, urls: Urls) -> None:
    order_id, _ = await shop.buy()
    reached = asyncio.Event()

    async def block() -> None:
        reached.set()
        await asyncio.Event().wait()

    shop.hooks["after refund_payments"] = block
    call = shop.orders.RefundOrder(new_refund(order_id, 5))
    await reached.wait()
    call.cancel()
    query: LiteralString = "SELECT lease_until IS NULL FROM orders"
    async with asyncio.timeout(10):
        while read(urls["order"], query) != [(True,)]:  # noqa: ASYNC110 - a call that ends.
            await asyncio.sleep(0.01)
    shop.hooks.clear()
    make_due(urls)
    await shop.worker.run()
    assert at_provider(urls) == (1, 5_00)
    assert audit(urls) == []


async def test_a_refund_that_takes_long_is_returned_pending(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def block() -> None:
        await asyncio.Event().wait()

    order_id, _ = await shop.buy()
    monkeypatch.setattr(servicer, "DRIVE_SECONDS", 0.1)
    shop.hooks["before refund_payments"] = block
    accepted = await shop.orders.RefundOrder(new_refund(order_id, 5))
    assert accepted.state == PENDING
    assert (await shop.get_order(order_id)).refunded_amount == pounds(5)
    shop.hooks.clear()
    make_due(urls)
    await shop.worker.run()
    assert audit(urls) == []


async def test_a_refund_waits_for_a_provider_that_does_not_know_yet(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other refunds of the order go on."""
    refund_payments = shop.peers.refund_payments

    async def first_is_pending(refunds: Sequence[Refund]) -> RefundResults:
        results = await refund_payments(refunds)
        return {key: RefundState.PENDING if key[1] == 1 else results[key] for key in results}

    order_id, product_id = await shop.buy()
    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "refund_payments", first_is_pending)
        await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1), key="1"))
        await shop.orders.RefundOrder(new_refund(order_id, 6, key="2"))
    assert [each.state for each in await shop.list_refunds(order_id)] == [PENDING, SUCCEEDED]
    assert await shop.stock(product_id) == (6, 0, 4)
    make_due(urls)
    await shop.worker.run()
    assert await shop.stock(product_id) == (7, 0, 3)
    assert audit(urls) == []


@pytest.mark.parametrize(("step", "result"), [("refund_payments", {}), ("return_stock", {})])
async def test_a_refund_without_a_result_is_not_settled(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch, step: str, result: object
) -> None:
    async def omit(_refunds: Sequence[Refund]) -> object:
        return result

    order_id, product_id = await shop.buy()
    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, step, omit)
        refund = await shop.orders.RefundOrder(new_refund(order_id, 5, (product_id, 1)))
        assert refund.state == PENDING
    make_due(urls)
    await shop.worker.run()
    assert await shop.stock(product_id) == (7, 0, 3)
    assert audit(urls) == []


async def test_a_refund_that_the_provider_rejects_gives_back_what_it_noted(
    shop: Shop, urls: Urls
) -> None:
    order_id, product_id = await shop.buy()
    with psycopg.connect(urls["payment"]) as connection:
        connection.execute("UPDATE sandbox.intents SET refunded_minor = amount_minor")
    request = new_refund(order_id, None, (product_id, 4))
    for _ in range(2):
        refused = await refusal(shop.orders.RefundOrder(request))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "REFUND_FAILED",
        )
    (refund,) = await shop.list_refunds(order_id)
    assert refund.state == order_pb2.REFUND_STATE_FAILED
    assert not (await shop.get_order(order_id)).HasField("refunded_amount")
    assert await shop.stock(product_id) == (6, 0, 4)
    with psycopg.connect(urls["payment"]) as connection:
        connection.execute("UPDATE sandbox.intents SET refunded_minor = 0")
    again = new_refund(order_id, None, (product_id, 4), key="again")
    assert (await shop.orders.RefundOrder(again)).number == 2
    assert await shop.stock(product_id) == (10, 0, 0)
    assert audit(urls) == []


async def test_the_refunds_that_are_driven_at_once_are_bounded(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, _ = await shop.buy()
    shop.hooks["before refund_payments"] = lose
    for number in range(3):
        await shop.orders.RefundOrder(new_refund(order_id, 1, key=f"{number}"))
    shop.hooks.clear()
    monkeypatch.setattr("services.order.refunds.MAX_REFUNDS", 2)
    for expected in ([SUCCEEDED, SUCCEEDED, PENDING], [SUCCEEDED] * 3):
        make_due(urls)
        await shop.worker.run()
        assert [each.state for each in await shop.list_refunds(order_id)] == expected
    assert audit(urls) == []
