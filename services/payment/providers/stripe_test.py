"""The adapter of Stripe keeps Stripe's own rules, on the fake."""

import logging
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from chassis.testing import Events
from services.payment.domain import Action, State
from services.payment.providers.contract import AMOUNT, new_request
from services.payment.providers.provider import Confirmation, IntentRequest
from services.payment.providers.stripe import StripeProvider
from services.payment.providers.stripe_testing import AUTHENTICATED, RETURN_URL
from tools.fakes.faults import Kind, Rule
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET
from tools.fakes.stripe.testing import Stripe

pytest_plugins = (
    "chassis.testing",
    "services.payment.providers.contract",
    "services.payment.providers.stripe_testing",
    "tools.fakes.stripe.testing",
)

DECLINED = "pm_card_chargeDeclinedInsufficientFunds"


async def create(provider: StripeProvider, request: IntentRequest | None = None) -> str:
    request = request or replace(new_request(), manual_capture=False)
    (intent,) = await provider.create_intents([request])
    assert intent is not None
    return intent.reference


def read_status(fake: Stripe, reference: str) -> str:
    return str(fake.client.get(f"/v1/payment_intents/{reference}").json()["status"])


async def test_an_intent_with_automatic_capture_is_charged_when_it_is_confirmed(
    stripe: Stripe, provider: StripeProvider
) -> None:
    reference = await create(provider)
    confirmation = Confirmation(reference, "pm_card_visa")
    for _ in range(2):
        (result,) = await provider.confirm([confirmation])
        assert (result.state, result.amount) == (State.SUCCEEDED, AMOUNT)
    (intent,) = stripe.list_all("/v1/payment_intents")
    assert intent["amount_received"] == AMOUNT.minor


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (DECLINED, "insufficient_funds"),
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_unknown", "unknown_payment_method"),
    ],
)
async def test_a_declined_intent_cannot_be_paid_any_more(
    stripe: Stripe, provider: StripeProvider, method: str, reason: str
) -> None:
    reference = await create(provider)
    (result,) = await provider.confirm([Confirmation(reference, method)])
    assert (result.state, result.decline_reason) == (State.DECLINED, reason)
    assert read_status(stripe, reference) == "canceled"


@pytest.mark.parametrize("kind", [Kind.LOSE_REQUEST, Kind.FAIL_BEFORE])
async def test_a_decline_is_not_believed_before_the_intent_is_cancelled(
    stripe: Stripe, provider: StripeProvider, kind: Kind
) -> None:
    reference, other = await create(provider), await create(provider)
    stripe.faults.set(Rule(kind, f"{reference}/cancel"))
    confirmations = [Confirmation(each, DECLINED) for each in (reference, other)]
    first, _ = await provider.confirm(confirmations)
    assert first.state is State.PROCESSING
    stripe.faults.set()
    (again,) = await provider.confirm([Confirmation(reference, "pm_card_visa")])
    assert (again.state, again.decline_reason) == (State.DECLINED, "insufficient_funds")
    assert read_status(stripe, reference) == "canceled"


async def test_a_payment_that_overtakes_its_decline_is_believed(
    stripe: Stripe, provider: StripeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = await create(provider)
    cancel = provider._cancel

    async def pay_and_cancel(reference: str) -> object:
        data = {"payment_method": "pm_card_visa", "return_url": RETURN_URL}
        stripe.client.post(f"/v1/payment_intents/{reference}/confirm", data=data)
        return await cancel(reference)

    monkeypatch.setattr(provider, "_cancel", pay_and_cancel)
    (result,) = await provider.confirm([Confirmation(reference, DECLINED)])
    assert result.state is State.SUCCEEDED


async def test_an_action_has_the_url_and_the_secret_of_the_stored_intent(
    stripe: Stripe, provider: StripeProvider
) -> None:
    reference = await create(provider)
    (result,) = await provider.confirm([Confirmation(reference, AUTHENTICATED)])
    intent = stripe.client.get(f"/v1/payment_intents/{reference}").json()
    url = f"{stripe.url}/_fake/actions/{reference}"
    assert result.state is State.REQUIRES_ACTION
    assert result.action == Action(url, intent["client_secret"])
    assert await provider.find([reference]) == [result]


async def test_a_failed_action_declines_the_intent_for_good(
    stripe: Stripe, provider: StripeProvider
) -> None:
    reference = await create(provider)
    confirmation = Confirmation(reference, AUTHENTICATED)
    await provider.confirm([confirmation])
    stripe.act(reference, "fail")
    assert (await provider.find([reference]))[0].state is State.PROCESSING
    (result,) = await provider.confirm([confirmation])
    assert (result.state, result.decline_reason) == (State.DECLINED, "authentication_required")
    assert read_status(stripe, reference) == "canceled"


async def test_a_payment_that_stays_processing_is_not_final(provider: StripeProvider) -> None:
    reference = await create(provider)
    (result,) = await provider.confirm([Confirmation(reference, "pm_usBankAccount_processing")])
    assert result.state is State.PROCESSING
    assert (await provider.cancel([reference]))[0].state is State.PROCESSING


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (Amount(29, "GBP"), "amount_too_small"),
        (Amount(100_000_000, "GBP"), "amount_too_large"),
        (Amount(10_00, "CUP"), "invalid_currency"),
        (Amount(10_01, "MGA"), "amount_not_chargeable"),
    ],
)
async def test_an_amount_that_is_not_charged_is_refused_for_good(
    provider: StripeProvider, amount: Amount, reason: str
) -> None:
    request = replace(new_request(), amount=amount)
    (intent,) = await provider.create_intents([request])
    assert intent is not None
    assert (intent.reference, intent.decline_reason) == ("", reason)


@pytest.mark.parametrize(
    ("amount", "sent"),
    [
        (Amount(1_234, "JPY"), 1_234),
        (Amount(1_230, "KWD"), 1_230),
        (Amount(5, "ISK"), 500),
        (Amount(5_000, "UGX"), 500_000),
        (Amount(5_000_00, "MGA"), 5_000),
    ],
)
async def test_amounts_are_in_the_units_of_stripe(
    stripe: Stripe, provider: StripeProvider, amount: Amount, sent: int
) -> None:
    reference = await create(provider, replace(new_request(), amount=amount))
    intent = stripe.client.get(f"/v1/payment_intents/{reference}").json()
    assert (intent["amount"], intent["currency"]) == (sent, amount.currency_code.lower())
    assert (await provider.find([reference]))[0].amount == amount


async def test_a_key_that_was_used_with_other_parameters_is_replaced(
    provider: StripeProvider,
) -> None:
    request = new_request()
    first = await create(provider, request)
    assert await create(provider, replace(request, manual_capture=False)) != first


async def test_a_key_whose_failure_is_replayed_is_replaced(
    stripe: Stripe, provider: StripeProvider
) -> None:
    request = new_request()
    stripe.broken_keys.add(request.key)
    assert await create(provider, request)


async def test_a_wrong_secret_key_leaves_the_outcome_unknown(stripe: Stripe) -> None:
    provider = StripeProvider(stripe.url, "sk_test_wrong", WEBHOOK_SECRET, RETURN_URL)
    with pytest.raises(errors.Unavailable):
        await provider.create_intents([new_request()])
    await provider.close()


async def test_a_missing_intent_does_not_fail_its_batch(
    provider: StripeProvider, events: Events
) -> None:
    reference = await create(provider)
    confirmations = [Confirmation(each, "pm_card_visa") for each in (reference, "pi_none")]
    states = [result.state for result in await provider.confirm(confirmations)]
    assert states == [State.SUCCEEDED, State.PROCESSING]
    assert [each["status"] for each in events if each["event"] == "stripe_request_refused"] == [404]
    with pytest.raises(errors.Unavailable):
        await provider.cancel(["pi_none"])


async def test_keys_and_client_secrets_are_in_no_log_and_no_repr(
    stripe: Stripe, provider: StripeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reference = await create(provider)
    (result,) = await provider.confirm([Confirmation(reference, AUTHENTICATED)])
    secret = stripe.client.get(f"/v1/payment_intents/{reference}").json()["client_secret"]
    stripe.faults.set(Rule(Kind.LOSE_REQUEST))
    with pytest.raises(errors.Unavailable) as failed:
        await provider.cancel([reference])
    shown = f"{caplog.text} {provider!r} {vars(provider)!r} {result!r} {failed.getrepr()}"
    for each in (API_KEY, secret):
        assert each not in shown
