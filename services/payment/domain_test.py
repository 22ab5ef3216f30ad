"""State transitions of payments."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.payment import domain
from services.payment.domain import (
    Action,
    Charge,
    ChargeResult,
    Payment,
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


def charge(payment_method: str = "pm_sandbox") -> Charge:
    return Charge(ORDER_ID, POUNDS, payment_method)


def test_check_charges_names_the_field_and_not_the_card_number() -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        domain.check_charges([charge(), replace(charge("4242424242424242"), order_id=PAYMENT_ID)])
    assert [violation.field for violation in caught.value.violations] == [
        "charges[1].payment_method"
    ]
    assert "4242" not in repr(caught.value) + repr(caught.value.violations)


def test_check_charges_rejects_a_repeated_order() -> None:
    with pytest.raises(errors.Unprocessable, match=r"charges\[1\]\.order_id must not be repeated"):
        domain.check_charges([charge(), charge()])


def test_a_charge_of_0_succeeds_without_the_provider() -> None:
    payment = domain.make_free_payment(replace(charge(), amount=Amount(0, "GBP")))
    assert (payment.state, payment.provider) == (State.SUCCEEDED, "")


@pytest.mark.parametrize("amount", [Amount(10_01, "GBP"), Amount(10_00, "EUR")])
def test_a_charge_of_another_amount_is_rejected(amount: Amount) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        domain.check_same_amount(payment(State.SUCCEEDED), replace(charge(), amount=amount))
    assert caught.value.reason == "ORDER_AMOUNT_CHANGED"


def test_a_tombstone_matches_any_amount() -> None:
    domain.check_same_amount(payment(State.CANCELLED, None), charge())


@pytest.mark.parametrize("state", FINAL)
def test_a_final_payment_never_changes(state: State) -> None:
    before = payment(state)
    for result in State:
        if (state, result) != (State.DECLINED, State.SUCCEEDED):
            assert domain.settle(before, ChargeResult(result)) is before


def test_a_payment_that_was_declined_can_still_have_been_charged() -> None:
    declined = replace(payment(State.DECLINED), decline_reason="card_declined")
    settled = domain.settle(declined, ChargeResult(State.SUCCEEDED))
    assert (settled.state, settled.decline_reason) == (State.SUCCEEDED, "")


@pytest.mark.parametrize(
    ("state", "result", "reason"),
    [
        (State.DECLINED, ChargeResult(State.SUCCEEDED), "declined_and_charged"),
        (State.CANCELLED, ChargeResult(State.SUCCEEDED), "cancelled_and_charged"),
        (State.PROCESSING, ChargeResult(State.SUCCEEDED, amount=POUNDS), ""),
        (
            State.PROCESSING,
            ChargeResult(State.PROCESSING, amount=Amount(1, "GBP")),
            "amount_mismatch",
        ),
        (State.SUCCEEDED, ChargeResult(State.SUCCEEDED), ""),
        (State.DECLINED, ChargeResult(State.CANCELLED), ""),
    ],
)
def test_a_charge_of_a_payment_that_was_not_charged_contradicts_it(
    state: State, result: ChargeResult, reason: str
) -> None:
    assert domain.find_contradiction(payment(state), result) == reason


@pytest.mark.parametrize("state", [State.REQUIRES_ACTION, State.REQUIRES_CAPTURE])
def test_what_a_provider_waits_for_is_presented_and_not_settled(state: State) -> None:
    before, action = payment(State.PROCESSING), Action("https://bank.example/3ds")
    result = ChargeResult(state, action=action)
    assert domain.settle(before, result) is before
    assert domain.present(before, result) == replace(before, state=state, action=action)
    assert domain.present(payment(State.CANCELLED), result) == payment(State.CANCELLED)


def test_a_hold_is_stored_once_and_only_while_the_payment_is_open() -> None:
    held = domain.hold(payment(State.PROCESSING), "auth_1")
    assert held.authorization_reference == "auth_1"
    assert domain.hold(held, "auth_2") is held
    for state in FINAL:
        assert domain.hold(payment(state), "auth_1") == payment(state)


def test_a_cancellation_is_not_applied_to_a_hold_that_it_did_not_know() -> None:
    before, result = payment(State.PROCESSING), ChargeResult(State.CANCELLED)
    held = domain.hold(before, "auth_1")
    assert domain.settle_cancelled(held, before, result) is held
    assert domain.settle_cancelled(held, held, result).state is State.CANCELLED


@pytest.mark.parametrize("state", FINAL)
def test_settle_applies_the_result_of_the_provider(state: State) -> None:
    settled = domain.settle(payment(State.PROCESSING), ChargeResult(state, "why"))
    assert (settled.state, settled.decline_reason) == (state, "why")


def test_settle_leaves_a_payment_whose_intent_is_unconfirmed() -> None:
    before = payment(State.PROCESSING)
    assert domain.settle(before, ChargeResult(State.PROCESSING)) is before


def test_only_succeeded_payments_have_ledger_entries() -> None:
    (entry,) = domain.charge_entries([payment(state) for state in State])
    assert (entry.type, entry.amount) == (TransactionType.CHARGE, POUNDS)
