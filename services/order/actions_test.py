"""Orders whose payments need the customer, or are captured after the stock is pinned."""

import asyncio
import itertools
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bazaar.order.v1 import order_pb2
from chassis.database import Database
from chassis.testing import refusal
from services.order.domain import Order, Payment, PaymentAction, State
from services.order.testing import (
    CAPTURES,
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
from services.payment.providers.sandbox import SandboxProvider
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

PINNED, EXPIRING = "pm_sandbox_action", "sandbox:pm_sandbox_action"
"""Payment methods that need the customer, the second with an expiring reservation."""
APPROVED = "sandbox:pm_card_visa"
"""A payment method that is captured manually, and needs nobody."""


async def approve(urls: Urls, order: order_pb2.Order, *, approved: bool = True) -> None:
    """Do what the customer does at the payment provider."""
    database = Database(app_url(urls["payment"]))
    await database.open()
    secret = order.payment_action.client_secret
    body = json.dumps({"client_secret": secret, "approved": approved})
    await SandboxProvider(database).read_webhook({}, body.encode())
    await database.close()


def expire_action(urls: Urls) -> None:
    execute(urls["order"], "UPDATE orders SET action_expire_time = now()")


def expire_reservation(urls: Urls) -> None:
    execute(urls["product"], "UPDATE reservations SET expires_at = now() WHERE state = 'RESERVED'")


async def run_worker(shop: Shop, urls: Urls) -> None:
    make_due(urls)
    await shop.worker.run()


def reservation(urls: Urls) -> str:
    ((state,),) = read(urls["product"], "SELECT state FROM reservations")
    return str(state)


async def place(shop: Shop, payment_method: str) -> tuple[order_pb2.CreateOrderRequest, str]:
    """Return the request for an order of 2 of 10 units, and the product."""
    product = await shop.new_product()
    return new_order(await shop.new_user(), (product, 2), payment_method=payment_method), product


@pytest.mark.parametrize(("payment_method", "kind"), [(PINNED, "PINNED"), (EXPIRING, "RESERVED")])
async def test_an_order_waits_for_its_customer_and_is_confirmed_when_the_request_is_repeated(
    shop: Shop, urls: Urls, payment_method: str, kind: str
) -> None:
    request, product = await place(shop, payment_method)
    call = shop.orders.CreateOrder(request)
    order = await call
    assert order.state == order_pb2.ORDER_STATE_PAYING
    assert ("retry-after", "1") in list(await call.trailing_metadata())
    assert order.payment_action.client_secret.startswith("pi_")
    lifetime = order.payment_action.expire_time.seconds - order.update_time.seconds
    assert lifetime == 600
    assert reservation(urls) == kind
    assert await shop.orders.CreateOrder(request) == order
    assert await shop.orders.GetOrder(order_pb2.GetOrderRequest(order_id=order.order_id)) == order
    await approve(urls, order)
    confirmed = await shop.orders.CreateOrder(request)
    assert confirmed.state == order_pb2.ORDER_STATE_CONFIRMED
    assert not confirmed.HasField("payment_action")
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


@pytest.mark.parametrize("payment_method", [PINNED, EXPIRING])
async def test_the_worker_confirms_an_order_that_was_approved_even_twice(
    shop: Shop, urls: Urls, payment_method: str
) -> None:
    request, product = await place(shop, payment_method)
    order = await shop.orders.CreateOrder(request)
    await run_worker(shop, urls)
    assert states(urls) == ["PAYING"]
    await approve(urls, order)
    await approve(urls, order)
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED"]
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


@pytest.mark.parametrize("payment_method", [PINNED, EXPIRING])
async def test_an_order_that_is_not_approved_in_time_is_cancelled(
    shop: Shop, urls: Urls, payment_method: str
) -> None:
    request, product = await place(shop, payment_method)
    order = await shop.orders.CreateOrder(request)
    expire_action(urls)
    await run_worker(shop, urls)
    assert states(urls) == ["CANCELLED"]
    assert await shop.stock(product) == (10, 0, 0)
    # Too late: the intent is cancelled.
    await approve(urls, order)
    assert (await refusal(shop.orders.CreateOrder(request))).reason == "PAYMENT_NOT_APPROVED"
    assert audit(urls) == []


@pytest.mark.parametrize("payment_method", [PINNED, EXPIRING])
async def test_an_order_that_is_approved_late_is_confirmed_if_the_stock_is_still_reserved(
    shop: Shop, urls: Urls, payment_method: str
) -> None:
    request, product = await place(shop, payment_method)
    order = await shop.orders.CreateOrder(request)
    expire_action(urls)
    await approve(urls, order)
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED"]
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


async def test_an_order_whose_approved_payment_cannot_be_held_is_cancelled_in_the_end(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hold_nothing(_: SandboxProvider, references: Sequence[str]) -> list[str]:
        return ["" for _ in references]

    monkeypatch.setattr(SandboxProvider, "authorize", hold_nothing)
    request, product = await place(shop, EXPIRING)
    await approve(urls, await shop.orders.CreateOrder(request))
    await run_worker(shop, urls)
    assert states(urls) == ["PAYING"]
    expire_action(urls)
    await run_worker(shop, urls)
    assert states(urls) == ["CANCELLED"]
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_an_order_that_is_approved_after_its_reservation_expired_is_not_charged(
    shop: Shop, urls: Urls
) -> None:
    request, product = await place(shop, EXPIRING)
    order = await shop.orders.CreateOrder(request)
    expire_reservation(urls)
    await approve(urls, order)
    assert (await refusal(shop.orders.CreateOrder(request))).reason == "RESERVATION_EXPIRED"
    assert read(urls["payment"], "SELECT state FROM sandbox.intents") == [("CANCELLED",)]
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_a_customer_who_refuses_has_a_declined_payment(shop: Shop, urls: Urls) -> None:
    request, product = await place(shop, EXPIRING)
    order = await shop.orders.CreateOrder(request)
    await approve(urls, order, approved=False)
    assert (await refusal(shop.orders.CreateOrder(request))).reason == "PAYMENT_DECLINED"
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_an_order_that_waits_for_its_customer_can_be_cancelled(
    shop: Shop, urls: Urls
) -> None:
    request, product = await place(shop, PINNED)
    order = await shop.orders.CreateOrder(request)
    await shop.orders.CancelOrder(order_pb2.CancelOrderRequest(order_id=order.order_id))
    await approve(urls, order)
    await run_worker(shop, urls)
    assert states(urls) == ["CANCELLED"]
    assert await shop.stock(product) == (10, 0, 0)
    assert audit(urls) == []


async def test_the_events_of_an_order_show_that_its_customer_is_needed(
    shop: Shop, urls: Urls
) -> None:
    request, _ = await place(shop, PINNED)
    order = await shop.orders.CreateOrder(request)
    await approve(urls, order)
    await shop.orders.CreateOrder(request)
    listing = order_pb2.ListOrderEventsRequest(order_id=order.order_id)
    (response,) = [each async for each in shop.orders.ListOrderEvents(listing)]
    assert [
        (State(order_pb2.OrderState.Name(event.state)[12:]), event.action_required)
        for event in response.events
    ] == [
        (State.PENDING, False),
        (State.PAYING, False),
        (State.PAYING, True),
        (State.CONFIRMED, False),
    ]


async def test_a_provider_that_shows_another_url_at_each_call_causes_no_more_events(
    shop: Shop, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it make the order due more often; its customer gets the newest URL."""
    charge = shop.peers.charge
    numbers = itertools.count()

    async def show_another_url(orders: Sequence[Order]) -> dict[uuid.UUID, Payment]:
        action = PaymentAction(f"https://bank.example/{next(numbers)}", "secret")
        payments = await charge(orders)
        return {key: replace(each, action=action) for key, each in payments.items()}

    request, _ = await place(shop, PINNED)
    with monkeypatch.context() as patch:
        patch.setattr(shop.peers, "charge", show_another_url)
        first = await shop.orders.CreateOrder(request)
        await run_worker(shop, urls)
        last = await shop.orders.CreateOrder(request)
    assert last.payment_action.redirect_url == "https://bank.example/2"
    assert last.payment_action.expire_time == first.payment_action.expire_time
    events = "SELECT count(*), max(version) FROM order_events"
    assert read(urls["order"], events) == [(3, 3)]
    assert read(urls["order"], "SELECT version, attempts FROM orders") == [(3, 3)]


@pytest.mark.parametrize("step", [*STEPS, *CAPTURES])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_manual_capture_is_finished_by_the_worker_after_a_lost_message(
    shop: Shop, urls: Urls, side: str, step: str
) -> None:
    request, product = await place(shop, APPROVED)
    shop.hooks[f"{side} {step}"] = lose
    await shop.orders.CreateOrder(request)
    assert audit(urls) != []
    shop.hooks.clear()
    await run_worker(shop, urls)
    assert states(urls) == ["CONFIRMED"]
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []


async def test_stock_is_pinned_before_a_payment_is_captured(shop: Shop, urls: Urls) -> None:
    found: list[str] = []

    async def look() -> None:
        found.append(reservation(urls))

    request, _ = await place(shop, APPROVED)
    shop.hooks["before charge"] = look
    shop.hooks["before capture_payments"] = look
    await shop.orders.CreateOrder(request)
    assert found == ["RESERVED", "PINNED"]
    assert audit(urls) == []


async def test_a_free_order_with_manual_capture_is_pinned_before_its_charge(
    shop: Shop, urls: Urls
) -> None:
    product = await shop.new_product(price=0)
    request = new_order(await shop.new_user(), (product, 2), payment_method=APPROVED)
    found: list[str] = []

    async def look() -> None:
        found.append(reservation(urls))

    shop.hooks["before charge"] = look
    order = await shop.orders.CreateOrder(request)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert found == ["PINNED"]
    assert audit(urls) == []


async def test_two_tabs_pay_an_order_once(shop: Shop, urls: Urls) -> None:
    request, product = await place(shop, EXPIRING)
    order = await shop.orders.CreateOrder(request)
    await approve(urls, order)
    orders = await asyncio.gather(*(shop.orders.CreateOrder(request) for _ in range(10)))
    assert {each.state for each in orders} == {order_pb2.ORDER_STATE_CONFIRMED}
    assert await shop.stock(product) == (8, 0, 2)
    assert audit(urls) == []
