"""Rules of refunds."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.payment import refund
from services.payment.domain import Payment, RefundResult, RefundState, State
from services.payment.refund import NewRefund, Refund

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
ORDER_ID = uuid.UUID("0199aaaa-0000-7000-8000-000000000001")
PAYMENT_ID = uuid.UUID("0199aaaa-0000-7000-8000-000000000002")
POUNDS = Amount(10_00, "GBP")
CHARGED = Payment(PAYMENT_ID, ORDER_ID, State.SUCCEEDED, POUNDS, "stripe", "pi", "", 0, 1, NOW, NOW)


def new(number: int, minor: int, currency_code: str = "GBP") -> NewRefund:
    return NewRefund(ORDER_ID, number, Amount(minor, currency_code))


def recorded(number: int, minor: int, state: RefundState = RefundState.PENDING) -> Refund:
    return Refund(PAYMENT_ID, ORDER_ID, number, Amount(minor, "GBP"), state)


def begin(
    *requests: NewRefund,
    payment: Payment | None = CHARGED,
    earlier: Refund | None = None,
    refunded_minor: int = 0,
) -> list[Refund | errors.Error]:
    results = refund.begin(
        requests,
        {ORDER_ID: payment} if payment else {},
        {earlier.key: earlier} if earlier else {},
        {ORDER_ID: refunded_minor},
    )
    return [results[request.key] for request in requests]


def test_a_new_refund_is_pending() -> None:
    assert begin(new(1, 10_00)) == [recorded(1, 10_00)]


def test_a_repeated_refund_is_the_recorded_one() -> None:
    earlier = recorded(1, 10_00, RefundState.SUCCEEDED)
    assert begin(new(1, 10_00), earlier=earlier, refunded_minor=10_00) == [earlier]


def test_a_refund_of_more_than_remains_fails_for_good() -> None:
    assert begin(new(2, 4_01), refunded_minor=6_00) == [recorded(2, 4_01, RefundState.FAILED)]


def test_the_refunds_of_a_batch_share_what_remains() -> None:
    results = begin(new(1, 6_00), new(2, 4_01), new(3, 4_00))
    states = [result.state for result in results if isinstance(result, Refund)]
    assert states == [RefundState.PENDING, RefundState.FAILED, RefundState.PENDING]


@pytest.mark.parametrize(
    ("request_", "payment", "earlier", "reason"),
    [
        (new(1, 1), None, None, "PAYMENT_NOT_FOUND"),
        (new(1, 1), replace(CHARGED, state=State.PROCESSING), None, "PAYMENT_NOT_CHARGED"),
        (new(1, 1), replace(CHARGED, state=State.CANCELLED), None, "PAYMENT_NOT_CHARGED"),
        (new(1, 1, "EUR"), CHARGED, None, "CURRENCY_MISMATCH"),
        (new(1, 2), CHARGED, recorded(1, 1), "REFUND_DIFFERS"),
    ],
    ids=["no payment", "processing", "cancelled", "currency", "another amount"],
)
def test_a_refund_that_a_payment_cannot_have_gets_an_error_of_its_own(
    request_: NewRefund, payment: Payment | None, earlier: Refund | None, reason: str
) -> None:
    (result,) = begin(request_, payment=payment, earlier=earlier)
    assert isinstance(result, errors.Error)
    assert result.reason == reason
    assert result.metadata == {"order_id": str(ORDER_ID), "number": "1"}


def test_a_batch_has_no_refund_twice_and_no_refund_of_nothing() -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        refund.check_refunds([new(1, 1), new(1, 1), new(2, 0)])
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["refunds[1].number", "refunds[2].amount"]


def test_a_settled_refund_never_changes() -> None:
    pending = recorded(1, 3_00)
    assert refund.settle(pending, RefundResult(RefundState.PENDING)) is pending
    done = refund.settle(pending, RefundResult(RefundState.SUCCEEDED, "mv_1"))
    assert (done.state, done.provider_reference) == (RefundState.SUCCEEDED, "mv_1")
    assert refund.settle(done, RefundResult(RefundState.FAILED)) is done
