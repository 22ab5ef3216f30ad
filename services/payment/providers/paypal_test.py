"""What the adapter of PayPal makes of approvals, declines, amounts and expiries, on the fake."""

import asyncio

import pytest

from chassis import errors
from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.contract import AMOUNT, new_request
from services.payment.providers.paypal import PayPalProvider
from services.payment.providers.paypal_testing import RETURN_URL
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    IntentRequest,
    RefundRequest,
)
from tools.fakes.paypal.testing import PayPal

pytest_plugins = ("services.payment.providers.paypal_testing", "tools.fakes.paypal.testing")


def sum_of(paypal: PayPal, name: str) -> float:
    """Return what was held, captured or refunded of all orders."""
    return sum(float(order[name]) for order in paypal.read_books())


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
    assert held.hold == ""
    (result,) = await provider.find([held.reference])
    assert result.state is State.REQUIRES_ACTION
    paypal.act(held.reference)
    paypal.client.delete("/_fake/idempotency_keys").raise_for_status()
    assert await provider.authorize([held.reference]) != [""]


async def test_a_capture_that_is_declined_releases_the_hold(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "capture_declined")
    expected = ChargeResult(State.DECLINED, "capture_declined", amount=AMOUNT)
    for _ in range(2):
        assert await provider.capture([held]) == [expected]
    assert await provider.find([held.reference]) == [expected]
    assert sum_of(paypal, "held") == 0
    assert sum_of(paypal, "captured") == 0


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
    assert sum_of(paypal, "held") == 0


async def test_an_unknown_hold_declines_nothing(paypal: PayPal, provider: PayPalProvider) -> None:
    held = await hold(paypal, provider, "accepted")
    (result,) = await provider.capture([Authorization(held.reference, "UNKNOWN")])
    assert result.state is State.REQUIRES_CAPTURE
    assert sum_of(paypal, "held") == 10


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
        await provider.refund([RefundRequest("refund:7:1", "UNKNOWN", 1, AMOUNT)])


async def test_an_amount_that_paypal_cannot_write_is_not_refunded(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "accepted")
    await provider.capture([held])
    request = RefundRequest("refund:7:1", held.reference, 1, Amount(10_50, "HUF"))
    assert await provider.refund([request]) == [RefundResult(RefundState.FAILED)]
    assert sum_of(paypal, "refunded") == 0


async def test_cancelling_a_captured_order_changes_nothing(
    paypal: PayPal, provider: PayPalProvider
) -> None:
    held = await hold(paypal, provider, "accepted")
    await provider.capture([held])
    charged = ChargeResult(State.SUCCEEDED, amount=AMOUNT)
    assert await provider.cancel([held.reference]) == [charged]
    assert sum_of(paypal, "captured") == 10


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
        assert sum_of(paypal, "held") == 0
