"""The rules of payments and refunds."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.payment import domain
from services.payment.domain import (
    Charge,
    Outcome,
    Payment,
    Refund,
    RefundOutcome,
    RefundState,
    State,
    TransactionType,
)

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
ORDER_ID = uuid.UUID("0199aaaa-0000-7000-8000-000000000001")
PAYMENT_ID = uuid.UUID("0199aaaa-0000-7000-8000-000000000002")
POUNDS = Amount(10_00, "GBP")
FINAL = (State.SUCCEEDED, State.DECLINED, State.CANCELLED)


def payment(state: State, amount: Amount | None = POUNDS) -> Payment:
    return Payment(PAYMENT_ID, ORDER_ID, state, amount, "sandbox", "pi_1", "", 0, 1, NOW, NOW)


def refund(
    number: int, minor: int, state: RefundState, idempotency_key: str | None = None
) -> Refund:
    return Refund(PAYMENT_ID, number, idempotency_key, Amount(minor, "GBP"), state, "")


def charge(payment_method: str = "pm_sandbox") -> Charge:
    return Charge(ORDER_ID, POUNDS, payment_method)


def test_check_charges_names_the_field_and_not_the_card_number() -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        domain.check_charges([charge(), replace(charge("4242424242424242"), order_id=PAYMENT_ID)])
    assert [violation.field for violation in caught.value.violations] == [
        "charges[1].payment_method"
    ]
    assert "4242" not in repr(caught.value) + repr(caught.value.violations)


def test_check_charges_refuses_an_order_that_is_there_twice() -> None:
    with pytest.raises(
        errors.Unprocessable, match=r"charges\[1\]\.order_id must not be there twice"
    ):
        domain.check_charges([charge(), charge()])


@pytest.mark.parametrize("payment_method", ["", "x" * 256, "pm\x00"])
def test_check_charges_refuses_a_payment_method_of_a_bad_form(payment_method: str) -> None:
    with pytest.raises(errors.Unprocessable):
        domain.check_charges([charge(payment_method)])


def test_a_charge_over_nothing_is_done_without_a_provider() -> None:
    draft = domain.begin_payment(replace(charge(), amount=Amount(0, "GBP")), "sandbox")
    assert (draft.state, draft.provider) == (State.SUCCEEDED, "")


@pytest.mark.parametrize("amount", [Amount(10_01, "GBP"), Amount(10_00, "EUR")])
def test_a_charge_over_another_amount_is_refused(amount: Amount) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        domain.check_same_amount(payment(State.SUCCEEDED), replace(charge(), amount=amount))
    assert caught.value.reason == "ORDER_AMOUNT_CHANGED"


def test_a_tombstone_is_for_any_amount() -> None:
    domain.check_same_amount(payment(State.CANCELLED, None), charge())


def test_the_first_intent_stays() -> None:
    attached = domain.attach_intent(payment(State.NEW), "pi_2")
    assert (attached.state, attached.provider_reference) == (State.PROCESSING, "pi_2")
    assert domain.attach_intent(attached, "pi_3") is attached


@pytest.mark.parametrize("state", FINAL)
def test_a_final_payment_never_changes(state: State) -> None:
    before = payment(state)
    assert domain.attach_intent(before, "pi_2") is before
    assert domain.cancel_unattached(before) is before
    for outcome in State:
        assert domain.settle(before, Outcome(outcome)) is before


def test_only_a_payment_without_an_intent_is_cancelled_without_asking_the_provider() -> None:
    assert domain.cancel_unattached(payment(State.NEW)).state is State.CANCELLED
    processing = payment(State.PROCESSING)
    assert domain.cancel_unattached(processing) is processing


@pytest.mark.parametrize("state", FINAL)
def test_settle_believes_the_provider(state: State) -> None:
    settled = domain.settle(payment(State.PROCESSING), Outcome(state, "why"))
    assert (settled.state, settled.decline_reason) == (state, "why")


def test_settle_leaves_a_payment_that_the_provider_does_not_know_the_end_of() -> None:
    before = payment(State.PROCESSING)
    assert domain.settle(before, Outcome(State.PROCESSING)) is before


def test_the_ledger_has_only_what_was_charged() -> None:
    (entry,) = domain.charge_entries([payment(state) for state in State])
    assert (entry.type, entry.amount) == (TransactionType.CHARGE, POUNDS)


def test_a_refund_without_an_amount_is_over_what_is_left() -> None:
    earlier = [
        refund(1, 3_00, RefundState.SUCCEEDED),
        refund(2, 2_00, RefundState.PENDING),
        refund(3, 4_00, RefundState.FAILED),
    ]
    made = domain.begin_refund(payment(State.SUCCEEDED), earlier, None, "r")
    assert made == refund(4, 5_00, RefundState.PENDING, "r")


@pytest.mark.parametrize("state", [RefundState.PENDING, RefundState.SUCCEEDED])
def test_a_refund_over_more_than_is_left_is_refused(state: RefundState) -> None:
    with pytest.raises(errors.FailedPrecondition) as caught:
        domain.begin_refund(
            payment(State.SUCCEEDED), [refund(1, 6_00, state)], Amount(4_01, "GBP"), None
        )
    assert caught.value.reason == "REFUND_EXCEEDS_PAYMENT"


def test_a_refund_of_what_is_all_given_back_is_refused() -> None:
    with pytest.raises(errors.FailedPrecondition):
        domain.begin_refund(
            payment(State.SUCCEEDED), [refund(1, 10_00, RefundState.SUCCEEDED)], None, None
        )


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUCCEEDED])
def test_a_refund_of_what_was_not_charged_is_refused(state: State) -> None:
    with pytest.raises(errors.FailedPrecondition) as caught:
        domain.begin_refund(payment(state), [], None, None)
    assert caught.value.reason == "PAYMENT_NOT_CHARGED"


@pytest.mark.parametrize(
    ("amount", "field"),
    [(Amount(0, "GBP"), "amount"), (Amount(1_00, "EUR"), "amount.currency_code")],
)
def test_a_refund_names_what_is_wrong_with_its_amount(amount: Amount, field: str) -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        domain.begin_refund(payment(State.SUCCEEDED), [], amount, None)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize("amount", [None, Amount(3_00, "GBP")])
def test_an_idempotency_key_finds_its_refund_again(amount: Amount | None) -> None:
    earlier = [refund(1, 3_00, RefundState.PENDING, "r"), refund(2, 3_00, RefundState.PENDING)]
    assert domain.find_repeated(earlier, amount, "r") is earlier[0]
    assert domain.find_repeated(earlier, amount, "s") is None
    assert domain.find_repeated(earlier, amount, None) is None


def test_an_idempotency_key_is_for_one_amount() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        domain.find_repeated([refund(1, 3_00, RefundState.PENDING, "r")], Amount(3_01, "GBP"), "r")
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


def test_a_settled_refund_never_changes() -> None:
    pending = refund(1, 3_00, RefundState.PENDING)
    assert domain.settle_refund(pending, RefundOutcome(RefundState.PENDING)) is pending
    done = domain.settle_refund(pending, RefundOutcome(RefundState.SUCCEEDED, "mv_1"))
    assert (done.state, done.provider_reference) == (RefundState.SUCCEEDED, "mv_1")
    assert domain.settle_refund(done, RefundOutcome(RefundState.FAILED)) is done
