"""Cancellations of orders at each step, and compensation of batches."""

import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import replace

import grpc
import pytest

from bazaar.order.v1 import order_pb2
from chassis import status
from chassis.testing import read_refusal, refusal
from services.order.domain import Order, Payment, PaymentState
from services.order.testing import (
    STEPS,
    Shop,
    Urls,
    audit,
    lose,
    new_order,
    read,
    states,
)

pytest_plugins = ("tools.postgres.testing", "services.order.testing")


async def cancel(shop: Shop, order_id: str) -> order_pb2.Order:
    return await shop.orders.CancelOrder(order_pb2.CancelOrderRequest(order_id=order_id))


async def reason_of(call: Awaitable[object]) -> str:
    """Return the reason of the error, or OK."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error).reason
    return "OK"


def order_id_of(urls: Urls) -> str:
    ((order_id,),) = read(urls["order"], "SELECT order_id FROM orders")
    return str(order_id)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_cancelling_an_order_that_is_driven_succeeds_before_the_charge_only(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    point = f"{side} {step}"
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    reasons: list[str] = []

    async def interfere() -> None:
        reasons.append(await reason_of(cancel(shop, order_id_of(urls))))

    shop.hooks.once(point, interfere)
    created = await reason_of(shop.orders.CreateOrder(request))
    # Money decides: once the charge has succeeded, it is too late.
    late = point in {"after charge", "before commit_stock", "after commit_stock"}
    assert reasons == ["ORDER_NOT_CANCELLABLE" if late else "OK"]
    assert created == ("OK" if late else "ORDER_CANCELLED")
    assert states(urls) == ["CONFIRMED" if late else "CANCELLED"]
    assert await shop.stock(product) == ((8, 0, 2) if late else (10, 0, 0))
    assert audit(urls) == []


@pytest.mark.parametrize("step", ["reserve_stock", "charge"])
async def test_an_order_that_was_interrupted_can_be_cancelled(
    shop: Shop, urls: Urls, step: str
) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    shop.hooks[f"before {step}"] = lose
    await shop.orders.CreateOrder(request)
    cancelled = await cancel(shop, order_id_of(urls))
    assert cancelled.state == order_pb2.ORDER_STATE_CANCELLED
    assert await cancel(shop, cancelled.order_id) == cancelled
    shop.hooks.clear()
    assert (await refusal(shop.orders.CreateOrder(request))).reason == "ORDER_CANCELLED"
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_stock_stays_reserved_while_the_payment_is_unknown(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel_payments = shop.peers.cancel_payments

    async def return_unknown(orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        payments = await cancel_payments(orders)
        return {key: replace(each, state=PaymentState.UNKNOWN) for key, each in payments.items()}

    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    shop.hooks["before charge"] = lose
    await shop.orders.CreateOrder(request)
    monkeypatch.setattr(shop.peers, "cancel_payments", return_unknown)
    refused = await refusal(cancel(shop, order_id_of(urls)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "ORDER_UNDER_WAY")
    assert states(urls) == ["CANCELLING"]
    assert await shop.stock(product) == (8, 2, 0)
    monkeypatch.undo()
    assert (await cancel(shop, order_id_of(urls))).state == order_pb2.ORDER_STATE_CANCELLED
    assert audit(urls) == []


async def test_only_the_unpaid_orders_of_a_batch_release_their_stock(
    shop: Shop, urls: Urls
) -> None:
    user_id, product = await shop.new_user(), await shop.new_product()
    paid, unpaid = (new_order(user_id, (product, 2), key=key) for key in ("paid", "unpaid"))
    for request, point in ((paid, "after charge"), (unpaid, "before charge")):
        shop.hooks.clear()
        shop.hooks.update({point: lose, "before cancel_payments": lose})
        accepted = await shop.orders.CreateOrder(request)
        await refusal(cancel(shop, accepted.order_id))
    assert states(urls) == ["CANCELLING", "CANCELLING"]
    shop.hooks.clear()
    chunk = order_pb2.CreateOrdersRequest(orders=[paid, unpaid])
    (response,) = [each async for each in shop.orders.CreateOrders(iter([chunk]))]
    assert response.results[0].order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert status.error_info(response.results[1].error).reason == "ORDER_CANCELLED"
    assert states(urls) == ["CONFIRMED", "CANCELLED"]
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


async def test_a_cancelled_order_whose_charge_succeeded_goes_forward(
    shop: Shop, urls: Urls
) -> None:
    product = await shop.new_product()
    request = new_order(await shop.new_user(), (product, 2))
    shop.hooks["after charge"] = lose
    await shop.orders.CreateOrder(request)
    refused = await refusal(cancel(shop, order_id_of(urls)))
    assert refused.reason == "ORDER_NOT_CANCELLABLE"
    assert states(urls) == ["CONFIRMED"]
    query = "SELECT state FROM order_events ORDER BY version"
    events = ["PENDING", "PAYING", "CANCELLING", "CONFIRMED"]
    assert [row[0] for row in read(urls["order"], query)] == events
    assert audit(urls) == []
