"""The adapter of PayPal satisfies the contract of providers on the fake, whatever call fails."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from chassis import errors
from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.contract import AMOUNT, Bench, Driver, ProviderContract, new_request
from services.payment.providers.paypal import PayPalProvider
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    IntentRequest,
    RefundRequest,
)
from tools.fakes.faults import Kind, Rule
from tools.fakes.paypal.app import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from tools.fakes.paypal.testing import PayPal

pytest_plugins = ("tools.fakes.paypal.testing",)

RETURN_URL = "https://shop.example/back"
API = "/v[12]/"
"""The calls of the adapter, and not those of the payer."""
CALLS = 9
"""How many calls the adapter makes in each of the schedules below if none fails."""
FAILURES = (
    Kind.LOSE_REQUEST,
    Kind.LOSE_RESPONSE,
    Kind.FAIL_BEFORE,
    Kind.FAIL_AFTER,
    Kind.DUPLICATE,
)


@pytest.fixture(autouse=True)
def _repeat_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.payment.providers.attempts.BACKOFF_SECONDS", 0.01)


@pytest.fixture
async def provider(paypal: PayPal) -> AsyncIterator[PayPalProvider]:
    provider = PayPalProvider(
        paypal.url,
        CLIENT_ID,
        SecretStr(CLIENT_SECRET),
        webhook_id=WEBHOOK_ID,
        return_url=RETURN_URL,
    )
    yield provider
    await provider.close()


def to_minor(value: str) -> int:
    return int(Decimal(value) * 100)


def read_captures(paypal: PayPal) -> list[int]:
    return [to_minor(value) for order in paypal.read_books() for value in order["captures"]]


def read_refunds(paypal: PayPal) -> list[int]:
    return [to_minor(each["value"]) for order in paypal.read_books() for each in order["refunds"]]


def count_holds(paypal: PayPal) -> int:
    return sum(Decimal(order["held"]) > 0 for order in paypal.read_books())


@pytest.fixture
def bench(paypal: PayPal, provider: PayPalProvider) -> Bench:
    return Bench(
        provider=provider,
        faults=paypal.faults,
        requests={
            "create": "POST /v2/checkout/orders$",
            "confirm": "GET /v2/checkout/orders/",
            "authorize": "/authorize$",
            "capture": "/capture$",
            "cancel": "/void$",
            "refund": "/refund$",
        },
        approved_method="checkout",
        approve=paypal.act,
        expire_keys=paypal.request_ids.expire_all,
        captured=lambda: read_captures(paypal),
        refunded=lambda: read_refunds(paypal),
        count_holds=lambda: count_holds(paypal),
    )


class TestPayPal(ProviderContract):
    async def test_a_cancelled_intent_is_not_charged_later(self, bench: Bench) -> None:
        """PayPal lets a cancelled order be approved and held, until it is cancelled again."""
        assert not bench.provider.cancels_finally
        driver = Driver(bench)
        await driver.create()
        assert (await driver.cancel()).state is State.CANCELLED
        assert (await driver.confirm()).state is State.REQUIRES_CAPTURE
        assert (await driver.cancel()).state is State.CANCELLED
        await driver.authorize()
        assert bench.count_holds() == 1
        assert (await driver.cancel()).state is State.CANCELLED
        assert bench.count_holds() == 0
        assert (await driver.capture()).state is State.CANCELLED
        assert bench.captured() == []


def read_order(paypal: PayPal, reference: str) -> dict[str, Any]:
    return next(order for order in paypal.read_books() if order["id"] == reference)


@pytest.mark.parametrize("kind", FAILURES)
async def test_no_call_that_fails_makes_a_second_capture_or_refund(
    paypal: PayPal, bench: Bench, kind: Kind
) -> None:
    # Nothing helps if the network doubles a refund and PayPal stores no keys at all.
    paypal.request_ids.forgets = kind is not Kind.DUPLICATE
    for nth in range(1, CALLS + 1):
        paypal.faults.set(Rule(kind, API, nth=nth))
        driver = Driver(bench)
        await driver.capture_payment()
        for _ in range(2):
            assert (await driver.refund()).state is RefundState.SUCCEEDED
        order = read_order(paypal, driver.reference)
        assert order["captures"] == ["10.00"], nth
        assert [refund["value"] for refund in order["refunds"]] == ["4.00"], nth
        assert order["held"] == "0", nth


@pytest.mark.parametrize("kind", FAILURES)
async def test_no_call_that_fails_leaves_a_hold_of_a_cancelled_payment(
    paypal: PayPal, bench: Bench, kind: Kind
) -> None:
    paypal.request_ids.forgets = True
    for nth in range(1, CALLS + 1):
        paypal.faults.set(Rule(kind, API, nth=nth))
        driver = Driver(bench)
        await driver.create()
        await driver.confirm()
        await driver.authorize()
        assert (await driver.cancel()).state is State.CANCELLED
        assert (await driver.capture()).state is State.CANCELLED
        order = read_order(paypal, driver.reference)
        assert (order["held"], order["captures"]) == ("0", []), nth


async def create(provider: PayPalProvider, amount: Amount = AMOUNT) -> str:
    request = new_request()
    (intent,) = await provider.create_intents(
        [IntentRequest(request.key, request.order_id, amount, manual_capture=True)]
    )
    assert intent is not None
    return intent.reference or f"declined: {intent.decline_reason}"


async def hold(paypal: PayPal, provider: PayPalProvider, instrument: str) -> Authorization:
    reference = await create(provider)
    paypal.act(reference, instrument=instrument)
    (authorization,) = await provider.authorize([reference])
    return Authorization(reference, authorization)


async def test_an_intent_waits_for_its_payer(paypal: PayPal, provider: PayPalProvider) -> None:
    reference = await create(provider)
    for _ in range(2):
        (result,) = await provider.confirm([Confirmation(reference, "checkout")])
        assert result.state is State.REQUIRES_ACTION
        assert result.amount == AMOUNT
        assert result.action is not None
        assert result.action.redirect_url == f"{paypal.url}/checkoutnow?token={reference}"
    assert await provider.authorize([reference]) == [""]
    page = paypal.act(reference)
    assert page.headers["location"].startswith(f"{RETURN_URL}?token={reference}")
    assert await provider.find([reference]) == [ChargeResult(State.REQUIRES_CAPTURE, amount=AMOUNT)]


async def test_an_order_of_the_shop_is_named_at_paypal(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    request = new_request()
    await provider.create_intents([request])
    (order,) = paypal.read_books()
    assert order["custom_id"] == request.order_id


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (Amount(10_50, "HUF"), "amount_not_supported"),
        (Amount(10_01, "TWD"), "amount_not_supported"),
        (Amount(1_000, "KWD"), "currency_not_supported"),
    ],
)
async def test_an_amount_that_paypal_does_not_support_is_declined(
    provider: PayPalProvider, amount: Amount, reason: str
) -> None:
    assert await create(provider, amount) == f"declined: {reason}"


@pytest.mark.parametrize("amount", [Amount(700, "JPY"), Amount(700_00, "HUF")])
async def test_currencies_without_decimals_keep_their_amounts(
    provider: PayPalProvider, amount: Amount
) -> None:
    (result,) = await provider.find([await create(provider, amount)])
    assert result.amount == amount


async def test_a_payer_whose_instrument_is_declined_is_asked_again(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "declined")
    assert held.authorization == ""
    (result,) = await provider.find([held.reference])
    assert result.state is State.REQUIRES_ACTION
    paypal.act(held.reference)
    paypal.client.delete("/_fake/keys").raise_for_status()
    assert await provider.authorize([held.reference]) != [""]


async def test_a_capture_that_is_declined_releases_the_hold(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "capture_declined")
    expected = ChargeResult(State.DECLINED, "capture_declined", amount=AMOUNT)
    for _ in range(2):
        assert await provider.capture([held]) == [expected]
    assert await provider.find([held.reference]) == [expected]
    assert count_holds(paypal) == 0
    assert read_captures(paypal) == []


async def test_a_capture_that_is_pending_is_not_known(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "capture_pending")
    for _ in range(2):
        (result,) = await provider.capture([held])
        assert result.state is State.PROCESSING
    (result,) = await provider.cancel([held.reference])
    assert result.state is State.PROCESSING


async def test_a_capture_that_is_refused_for_good_is_declined(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "accepted")
    paypal.advance(hours=29 * 24)
    expected = ChargeResult(State.DECLINED, "authorization_expired", amount=AMOUNT)
    assert await provider.capture([held]) == [expected]
    assert count_holds(paypal) == 0


async def test_an_unknown_hold_declines_nothing(paypal: PayPal, provider: PayPalProvider) -> None:
    held = await hold(paypal, provider, "accepted")
    (result,) = await provider.capture([Authorization(held.reference, "UNKNOWN")])
    assert result.state is State.REQUIRES_CAPTURE
    assert count_holds(paypal) == 1


async def test_an_order_that_expired_is_cancelled(paypal: PayPal, provider: PayPalProvider) -> None:
    reference = await create(provider)
    paypal.advance(hours=4)
    for results in (
        await provider.find([reference]),
        await provider.cancel([reference]),
        await provider.confirm([Confirmation(reference, "checkout")]),
    ):
        assert results == [ChargeResult(State.CANCELLED)]
    assert await provider.authorize([reference]) == [""]


async def test_a_refund_of_an_order_that_is_gone_is_not_known(provider: PayPalProvider) -> None:
    with pytest.raises(errors.Unavailable):
        await provider.refund([RefundRequest("refund:7:1", "UNKNOWN", "", 1, AMOUNT)])


async def test_an_amount_that_paypal_cannot_write_is_not_refunded(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "accepted")
    await provider.capture([held])
    request = RefundRequest(
        "refund:7:1", held.reference, held.authorization, 1, Amount(10_50, "HUF")
    )
    assert await provider.refund([request]) == [RefundResult(RefundState.FAILED)]
    assert read_refunds(paypal) == []


async def test_cancelling_a_captured_order_changes_nothing(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "accepted")
    await provider.capture([held])
    charged = ChargeResult(State.SUCCEEDED, amount=AMOUNT)
    assert await provider.cancel([held.reference]) == [charged]
    assert read_captures(paypal) == [AMOUNT.minor]


async def test_a_capture_and_a_cancellation_at_once_agree(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    for _ in range(10):
        held = await hold(paypal, provider, "accepted")
        await asyncio.gather(provider.capture([held]), provider.cancel([held.reference]))
        (result,) = await provider.find([held.reference])
        captures = paypal.read_books()[-1]["captures"]
        assert (result.state is State.SUCCEEDED) == (captures == ["10.00"])
        assert result.state in (State.SUCCEEDED, State.CANCELLED)
        assert count_holds(paypal) == 0
