"""Webhooks of refunds that fail: one that fails after it succeeded is for the staff."""

import pytest

from chassis import errors
from chassis.testing import Events
from services.payment.domain import Payment
from services.payment.refund import NewRefund
from services.payment.refunds import Refunds
from services.payment.testing import Hooks
from services.payment.webhook_testing import AMOUNT, Setup, make_event

pytest_plugins = (
    "chassis.testing",
    "tools.postgres.testing",
    "services.payment.testing",
    "services.payment.webhook_testing",
    "tools.fakes.stripe.testing",
)
DATABASE = "payment"


def make_failure(payment: Payment, refund: str) -> bytes:
    described = {"payment_intent": payment.provider_reference, "status": "failed"}
    return make_event(refund, "refund.failed", **described)


@pytest.mark.parametrize(
    ("method", "reasons"), [("pm_card_visa", ["refund_failed"]), ("pm_card_pendingRefund", [""])]
)
async def test_a_refund_that_fails_after_it_succeeded_is_quarantined(
    setup: Setup, events: Events, method: str, reasons: list[str]
) -> None:
    payment = await setup.charge(method)
    refunds = Refunds(setup.database, setup.providers)
    request = NewRefund(payment.order_id, 1, AMOUNT)
    await refunds.refund([request])
    (made,) = setup.fake.list_all("/v1/refunds")
    setup.fake.settle_refund(made["id"], "failed")
    await refunds.refund([request])
    for _ in range(2):
        await setup.receive(make_failure(payment, made["id"]))
    assert setup.reasons() == reasons
    logged = [each["failed_refund"] for each in events if each["event"] == "webhook_quarantined"]
    assert logged == [made["id"] for reason in reasons if reason]


async def test_a_refund_that_fails_before_its_success_is_recorded_is_quarantined_later(
    setup: Setup, events: Events
) -> None:
    async def fail() -> None:
        (made,) = setup.fake.list_all("/v1/refunds")
        setup.fake.settle_refund(made["id"], "failed")
        with pytest.raises(errors.Unavailable) as refused:
            await setup.receive(make_failure(payment, made["id"]))
        assert refused.value.reason == "REFUND_UNDER_WAY"
        assert setup.reasons() == []

    payment = await setup.charge("pm_card_visa")
    Hooks({"after refund": fail}).surround(*setup.providers, "refund")
    refunds = Refunds(setup.database, setup.providers)
    await refunds.refund([NewRefund(payment.order_id, 1, AMOUNT)])
    (made,) = setup.fake.list_all("/v1/refunds")
    await setup.receive(make_failure(payment, made["id"]))
    assert setup.reasons() == ["refund_failed"]
    assert [each["event"] for each in events].count("webhook_quarantined") == 1
