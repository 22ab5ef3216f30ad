"""Recovery: the worker finishes what a crash or an outage interrupted, and nothing else."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import LiteralString

import psycopg
import pytest

from bazaar.order.v1 import order_pb2
from services.order import queue_repository, worker
from services.order.domain import Order, Payment
from services.order.testing import (
    COMPENSATIONS,
    DECLINED_CARD,
    STEPS,
    Shop,
    Urls,
    audit,
    execute,
    lose,
    make_due,
    new_order,
    read,
    states,
)

Payments = dict[uuid.UUID, Payment]

pytest_plugins = ("tools.postgres.testing", "services.order.testing")


async def interrupt(
    shop: Shop, point: str, *, key: str = "k", payment_method: str = "pm_card_visa"
) -> tuple[str, order_pb2.CreateOrderRequest]:
    """Place an order that is interrupted at a point; return its product and its request."""
    product = await shop.new_product(sku=key)
    user = await shop.new_user(f"{key}@example.com")
    request = new_order(user, (product, 2), key=key, payment_method=payment_method)
    shop.hooks[point] = lose
    await shop.orders.CreateOrder(request)
    shop.hooks.clear()
    return product, request


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_the_worker_confirms_an_order_after_a_lost_message(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    product, request = await interrupt(shop, f"{side} {step}")
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED"]
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []
    order = await shop.orders.CreateOrder(request)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED


@pytest.mark.parametrize("step", COMPENSATIONS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_the_worker_cancels_a_declined_order_after_a_lost_message(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    product, _ = await interrupt(shop, f"{side} {step}", payment_method=DECLINED_CARD)
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["CANCELLED"]
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_the_events_name_the_worker_as_the_cause(shop: Shop, urls: Urls) -> None:
    await interrupt(shop, "before charge")
    make_due(urls)
    await shop.worker.run()
    query = "SELECT state, cause FROM order_events ORDER BY version"
    assert read(urls["order"], query) == [
        ("PENDING", "CLIENT"),
        ("PAYING", "CLIENT"),
        ("CONFIRMED", "WORKER"),
    ]


async def test_an_order_that_a_request_drives_is_left_to_it(shop: Shop, urls: Urls) -> None:
    """The worker runs while the request waits for its charge."""

    async def run_worker() -> None:
        del shop.hooks["before charge"]
        await shop.worker.run()

    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    shop.hooks["before charge"] = run_worker
    order = await shop.orders.CreateOrder(request)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    query = "SELECT DISTINCT cause FROM order_events"
    assert read(urls["order"], query) == [("CLIENT",)]


async def test_an_order_is_due_when_the_lease_of_a_dead_process_ends(
    shop: Shop, urls: Urls
) -> None:
    await interrupt(shop, "after charge")
    execute(
        urls["order"], "UPDATE orders SET next_at = now(), lease_until = now() + interval '30 s'"
    )
    await shop.worker.run()
    assert states(urls) == ["PAYING"]
    execute(urls["order"], "UPDATE orders SET lease_until = now()")
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED"]
    assert audit(urls) == []


async def test_an_order_whose_client_has_left_is_left_to_the_worker(shop: Shop, urls: Urls) -> None:
    reached = asyncio.Event()

    async def block() -> None:
        reached.set()
        await asyncio.Event().wait()

    request = new_order(await shop.new_user(), (await shop.new_product(), 1))
    shop.hooks["after charge"] = block
    call = shop.orders.CreateOrder(request)
    await reached.wait()
    call.cancel()
    query: LiteralString = "SELECT lease_until IS NULL FROM orders"
    async with asyncio.timeout(10):
        while read(urls["order"], query) != [(True,)]:  # noqa: ASYNC110 - a call that ends.
            await asyncio.sleep(0.01)
    shop.hooks.clear()
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED"]
    assert audit(urls) == []


async def test_concurrent_workers_share_the_orders(shop: Shop, urls: Urls) -> None:
    for number in range(20):
        await interrupt(shop, "before reserve_stock", key=f"key{number}")
    make_due(urls)
    batches: list[Sequence[Order]] = []
    reserve_stock = shop.peers.reserve_stock

    async def record_and_reserve(orders: Sequence[Order]) -> object:
        batches.append(orders)
        return await reserve_stock(orders)

    shop.peers.reserve_stock = record_and_reserve  # type: ignore[method-assign, assignment]
    await asyncio.gather(*(shop.worker.run() for _ in range(5)))
    claimed = [order.order_id for batch in batches for order in batch]
    assert len(claimed) == len(set(claimed)) == 20
    assert set(states(urls)) == {"CONFIRMED"}
    assert audit(urls) == []


async def test_an_order_that_another_process_locks_is_left_to_it(shop: Shop, urls: Urls) -> None:
    for key in ("locked", "other"):
        await interrupt(shop, "before charge", key=key)
    make_due(urls)
    with psycopg.connect(urls["order"]) as holder:
        holder.execute("SELECT FROM orders WHERE idempotency_key = 'locked' FOR UPDATE")
        async with asyncio.timeout(5):
            await shop.worker.run()
        assert states(urls) == ["PAYING", "CONFIRMED"]


async def test_the_pauses_between_attempts_grow_to_their_bound(shop: Shop, urls: Urls) -> None:
    await interrupt(shop, "before reserve_stock")
    pauses = []
    for attempts in (1, 3, 30):
        shop.hooks["before reserve_stock"] = lose
        execute(urls["order"], "UPDATE orders SET next_at = now(), attempts = %s", attempts)
        await shop.worker.run()
        query = (
            "SELECT attempts, extract(epoch FROM next_at - now())::float8, lease_until FROM orders"
        )
        ((counted, pause, lease_until),) = read(urls["order"], query)
        assert (counted, lease_until) == (attempts + 1, None)
        pauses.append(pause)
    assert pauses[0] <= 2
    assert pauses[1] <= 8
    assert pauses[2] <= queue_repository.MAX_BACKOFF_SECONDS


async def test_leases_are_renewed_while_a_batch_takes_long(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupt(shop, "before charge")
    make_due(urls)
    monkeypatch.setattr(worker, "RENEWAL_SECONDS", 0.01)

    async def wait_for_renewal() -> None:
        execute(urls["order"], "UPDATE orders SET lease_until = now()")
        query: LiteralString = "SELECT lease_until > now() FROM orders"
        async with asyncio.timeout(10):
            while read(urls["order"], query) == [(False,)]:  # noqa: ASYNC110 - a task renews it.
                await asyncio.sleep(0.01)

    shop.hooks["before charge"] = wait_for_renewal
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED"]


async def test_a_pass_ends_when_the_database_is_down(shop: Shop, urls: Urls) -> None:
    """The supervisor of the worker then waits before the next one."""
    await interrupt(shop, "before charge")
    make_due(urls)
    await shop.stop("order")
    with pytest.raises(Exception, match="database"):
        await shop.worker.run()


async def test_an_order_whose_provider_does_not_respond_stops_no_other(
    shop: Shop, urls: Urls
) -> None:
    for key in ("k", "other"):
        await interrupt(shop, "before charge", key=key)
    ((silent,),) = read(urls["order"], "SELECT order_id FROM orders WHERE idempotency_key = 'k'")

    async def lose_one(charge: Callable[[], Awaitable[Payments]]) -> Payments:
        payments = await charge()
        del payments[silent]
        return payments

    shop.hooks.deliveries["charge"] = lose_one
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["PAYING", "CONFIRMED"]
    make_due(urls)
    await shop.worker.run()
    assert states(urls) == ["CONFIRMED", "CONFIRMED"]
    assert audit(urls) == []
