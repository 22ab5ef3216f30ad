"""The adapter of Stripe satisfies the contract of providers on the fake, whatever comes late."""

from dataclasses import replace

import pytest

from chassis import call_context, errors
from services.payment.domain import ChargeResult, RefundState, State
from services.payment.providers.contract import AMOUNT, Bench, Driver, ProviderContract
from services.payment.providers.provider import Confirmation, RefundRequest
from services.payment.providers.stripe import StripeProvider
from services.payment.providers.stripe_testing import AUTHENTICATED
from tools.fakes.faults import Kind, Rule
from tools.fakes.stripe.testing import Stripe

pytest_plugins = (
    "services.payment.providers.contract",
    "services.payment.providers.stripe_testing",
    "tools.fakes.stripe.testing",
)

LATE_SECONDS = 2.0


@pytest.fixture
def bench(stripe: Stripe, provider: StripeProvider) -> Bench:
    def intents() -> list[dict[str, int]]:
        return stripe.list_all("/v1/payment_intents")

    async def approve(reference: str) -> None:
        stripe.act(reference)

    return Bench(
        provider=provider,
        faults=stripe.faults,
        requests={
            "create": "POST /v1/payment_intents$",
            "confirm": "payment_intents/[^/]+(/confirm)?$",
            "authorize": "^$",
            "capture": "/capture$",
            "cancel": "/cancel$",
            "refund": "/v1/refunds$",
        },
        approved_method=AUTHENTICATED,
        approve=approve,
        expire_keys=stripe.keys.expire_all,
        captured=lambda: [each["amount_received"] for each in intents() if each["amount_received"]],
        refunded=lambda: [each["amount"] for each in stripe.list_all("/v1/refunds")],
        count_holds=lambda: sum(each["amount_capturable"] > 0 for each in intents()),
    )


class TestStripe(ProviderContract):
    pass


async def wait_for_late_requests(bench: Bench, reference: str) -> ChargeResult:
    """Read an intent behind the requests that were delayed before."""
    bench.faults.set(Rule(Kind.DELAY, "GET", delay_seconds=LATE_SECONDS))
    (result,) = await bench.provider.find([reference])
    bench.faults.set()
    return result


async def test_a_confirmation_that_arrives_after_the_cancellation_charges_nothing(
    bench: Bench,
) -> None:
    driver = Driver(bench)
    await driver.create()
    bench.faults.set(Rule(Kind.DELAY, "/confirm$", delay_seconds=LATE_SECONDS))
    with call_context.time_limit(LATE_SECONDS / 2), pytest.raises(errors.Unavailable):
        await bench.provider.confirm([Confirmation(driver.reference, "pm_card_visa")])
    assert (await driver.cancel()).state is State.CANCELLED
    result = await wait_for_late_requests(bench, driver.reference)
    assert (result.state, bench.captured(), bench.count_holds()) == (State.CANCELLED, [], 0)


async def test_a_refund_that_arrives_after_its_repetition_is_made_once(bench: Bench) -> None:
    driver = Driver(bench)
    await driver.capture_payment()
    bench.faults.set(Rule(Kind.DELAY, "POST /v1/refunds$", delay_seconds=LATE_SECONDS))
    request = RefundRequest("refund:1", driver.reference, 1, AMOUNT)
    with call_context.time_limit(LATE_SECONDS / 2), pytest.raises(errors.Unavailable):
        await bench.provider.refund([request])
    bench.faults.set()
    (result,) = await bench.provider.refund([request])
    assert result.state is RefundState.SUCCEEDED
    await wait_for_late_requests(bench, driver.reference)
    assert bench.refunded() == [AMOUNT.minor]


async def test_a_refund_is_found_behind_a_page_of_others(stripe: Stripe, bench: Bench) -> None:
    driver = Driver(bench)
    await driver.capture_payment()
    await driver.refund(1, 1)
    for number in range(2, 104):
        data = {
            "payment_intent": driver.reference,
            "amount": "1",
            "metadata[refund_number]": number,
        }
        stripe.client.post("/v1/refunds", data=data).raise_for_status()
    bench.expire_keys()
    await driver.refund(1, 1)
    assert sum(bench.refunded()) == 103


async def test_a_pending_refund_is_pending_until_its_bank_settles_it(
    stripe: Stripe, bench: Bench
) -> None:
    driver = Driver(replace(bench, approved_method="pm_card_pendingRefund"))
    await driver.capture_payment()
    with pytest.raises(AssertionError, match="stays unknown"):
        await driver.refund()
    (refund,) = stripe.list_all("/v1/refunds")
    stripe.settle_refund(refund["id"], "succeeded")
    assert (await driver.refund()).reference == refund["id"]
