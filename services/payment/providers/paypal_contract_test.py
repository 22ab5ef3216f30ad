"""The adapter of PayPal satisfies the contract of providers on the fake, whatever call fails."""

from decimal import Decimal
from typing import Any

import pytest

from services.payment.domain import RefundState, State
from services.payment.providers.contract import Bench, Driver, ProviderContract
from services.payment.providers.paypal import PayPalProvider
from tools.fakes.faults import Kind, Rule
from tools.fakes.paypal.testing import PayPal

pytest_plugins = (
    "services.payment.providers.contract",
    "services.payment.providers.paypal_testing",
    "tools.fakes.paypal.testing",
)

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


def to_minor(value: str) -> int:
    return int(Decimal(value) * 100)


@pytest.fixture
def bench(paypal: PayPal, provider: PayPalProvider) -> Bench:
    async def approve(reference: str) -> None:
        paypal.act(reference)

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
        approve=approve,
        expire_keys=paypal.keys.expire_all,
        captured=lambda: [
            to_minor(value) for order in paypal.read_books() for value in order["captures"]
        ],
        refunded=lambda: [
            to_minor(refund["value"])
            for order in paypal.read_books()
            for refund in order["refunds"]
        ],
        count_holds=lambda: sum(Decimal(order["held"]) > 0 for order in paypal.read_books()),
    )


class TestPayPal(ProviderContract):
    async def test_a_cancelled_intent_is_not_charged_later(self, bench: Bench) -> None:
        """PayPal lets a cancelled order be approved and held, until it is cancelled again."""
        assert not bench.provider.cancellation_is_final
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
    paypal.keys.forgets = kind is not Kind.DUPLICATE
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
    paypal.keys.forgets = True
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
