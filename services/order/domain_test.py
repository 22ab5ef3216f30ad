"""State transitions of orders."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.order import domain, order_errors
from services.order.domain import (
    Line,
    Order,
    Payment,
    PaymentAction,
    PaymentState,
    Refusal,
    State,
)
from services.order.failure import Failure, from_defect, from_outage

MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LAMP, BULB = uuid.UUID(int=1), uuid.UUID(int=2)
REFUSAL = Refusal("OUT_OF_STOCK", "There is too little.", {"product_id": str(LAMP)})
ORDER = Order(
    order_id=uuid.UUID(int=7),
    user_id=uuid.UUID(int=8),
    idempotency_key="k",
    request_hash=b"",
    payment_method="pm_card_visa",
    create_time=MOMENT,
    update_time=MOMENT,
    lines=(Line(LAMP, 2), Line(BULB, 5)),
)
PRICES = {LAMP: Amount(300, "GBP"), BULB: Amount(199, "GBP")}

# Repeated here in another form than in the domain, so that a mistake there is noticed.
ALLOWED = """
PENDING PAYING | PENDING REJECTED | PENDING CANCELLING | PAYING CONFIRMED | PAYING CANCELLING
CANCELLING CANCELLED | CANCELLING CONFIRMED | CONFIRMED SHIPPED | SHIPPED DELIVERED
"""
ALLOWED_PAIRS = {
    tuple(pair.split()) for line in ALLOWED.split("\n") for pair in line.split("|") if pair
}


def order_in(state: State) -> Order:
    return replace(ORDER, state=state)


def payment(state: PaymentState) -> Payment:
    return Payment(uuid.UUID(int=9), state, "card_declined")


@pytest.mark.parametrize("after", State)
@pytest.mark.parametrize("before", State)
def test_transition_allows_the_transitions_and_no_others(before: State, after: State) -> None:
    if (before, after) in ALLOWED_PAIRS:
        assert domain.transition(order_in(before), after) == order_in(after)
        return
    with pytest.raises(domain.Conflict) as raised:
        domain.transition(order_in(before), after)
    assert raised.value.reason == "ILLEGAL_STATE_CHANGE"


def test_every_state_leads_to_a_final_one() -> None:
    final = set(State) - domain.ACTIVE
    reaching = final
    while more := {s for s in State if domain.TRANSITIONS[s] & reaching} - reaching:
        reaching = reaching | more
    assert reaching == set(State)


def test_no_transitions_form_a_cycle() -> None:
    def follow(state: State, seen: tuple[State, ...]) -> None:
        assert state not in seen
        for after in domain.TRANSITIONS[state]:
            follow(after, (*seen, state))

    follow(State.PENDING, ())


def test_reserve_sets_the_prices_and_the_total() -> None:
    reserved = domain.reserve(ORDER, PRICES)
    assert reserved.state is State.PAYING
    assert reserved.lines == (Line(LAMP, 2, 300), Line(BULB, 5, 199))
    assert reserved.total == Amount(1_595, "GBP")


def test_reserve_cancels_an_order_in_two_currencies() -> None:
    cancelling = domain.reserve(ORDER, {**PRICES, BULB: Amount(199, "EUR")})
    assert cancelling.state is State.CANCELLING
    assert cancelling.refusal is not None
    assert cancelling.refusal.reason == "CURRENCY_MISMATCH"
    assert cancelling.total is None


@pytest.mark.parametrize(("excess", "state"), [(0, State.PAYING), (1, State.CANCELLING)])
def test_reserve_bounds_the_total(excess: int, state: State) -> None:
    order = replace(ORDER, lines=(Line(LAMP, 1),))
    prices = {LAMP: Amount(domain.MAX_TOTAL_MINOR + excess, "GBP")}
    assert domain.reserve(order, prices).state is state


@pytest.mark.parametrize("state", [State.PAYING, State.CANCELLING])
def test_settle_confirms_a_charged_order(state: State) -> None:
    order = replace(order_in(state), refusal=REFUSAL)
    confirmed = domain.settle(order, payment(PaymentState.SUCCEEDED))
    assert (confirmed.state, confirmed.refusal) == (State.CONFIRMED, None)
    assert confirmed.payment_id == uuid.UUID(int=9)


@pytest.mark.parametrize("state", [State.PAYING, State.CANCELLING])
def test_settle_leaves_an_order_whose_payment_is_unknown(state: State) -> None:
    order = order_in(state)
    assert domain.settle(order, payment(PaymentState.UNKNOWN)) is order


def test_settle_cancels_a_declined_order_with_its_reason() -> None:
    declined = domain.settle(order_in(State.PAYING), payment(PaymentState.DECLINED))
    assert declined.state is State.CANCELLING
    assert declined.refusal is not None
    assert declined.refusal.reason == "PAYMENT_DECLINED"
    assert declined.refusal.metadata == {"decline_reason": "card_declined"}


def test_settle_cancels_an_order_whose_payment_was_cancelled() -> None:
    cancelled = domain.settle(order_in(State.PAYING), payment(PaymentState.CANCELLED))
    assert cancelled.state is State.CANCELLING
    assert cancelled.refusal is not None
    assert cancelled.refusal.reason == "ORDER_CANCELLED"


@pytest.mark.parametrize("state", State)
def test_request_cancel_cancels_only_before_the_charge(state: State) -> None:
    order = order_in(state)
    if state in {State.CANCELLING, State.CANCELLED}:
        assert domain.request_cancel(order) is order
    elif state in {State.PENDING, State.PAYING}:
        assert domain.request_cancel(order).state is State.CANCELLING
    else:
        with pytest.raises(domain.Conflict) as raised:
            domain.request_cancel(order)
        assert raised.value.reason == "ORDER_NOT_CANCELLABLE"


@pytest.mark.parametrize("after", [State.SHIPPED, State.DELIVERED])
@pytest.mark.parametrize("before", State)
def test_update_status_ships_and_delivers_and_allows_nothing_else(
    before: State, after: State
) -> None:
    order = order_in(before)
    if before is after:
        assert domain.update_status(order, after) is order
    elif (before, after) in {("CONFIRMED", "SHIPPED"), ("SHIPPED", "DELIVERED")}:
        assert domain.update_status(order, after).state is after
    else:
        with pytest.raises(domain.Conflict):
            domain.update_status(order, after)


@pytest.mark.parametrize("state", State)
def test_only_confirmed_shipped_and_delivered_orders_have_no_error(state: State) -> None:
    refused = state in {State.REJECTED, State.CANCELLED}
    error = order_errors.find_error(replace(order_in(state), refusal=REFUSAL if refused else None))
    if state in {State.CONFIRMED, State.SHIPPED, State.DELIVERED}:
        assert error is None
        return
    assert error is not None
    assert error.reason == ("OUT_OF_STOCK" if refused else "ORDER_UNDER_WAY")
    assert error.metadata["order_id"] == str(ORDER.order_id)


@pytest.mark.parametrize(
    ("reason", "code", "http_status"),
    [
        ("PRODUCT_NOT_FOUND", "NOT_FOUND", None),
        ("OUT_OF_STOCK", "FAILED_PRECONDITION", 409),
        ("CURRENCY_MISMATCH", "INVALID_ARGUMENT", 422),
        ("PAYMENT_DECLINED", "FAILED_PRECONDITION", 402),
        ("ORDER_CANCELLED", "FAILED_PRECONDITION", 409),
        ("SOMETHING_NEW", "FAILED_PRECONDITION", 409),
    ],
)
def test_find_error_returns_the_refusal(reason: str, code: str, http_status: int | None) -> None:
    refusal = Refusal(reason, "No.", {"product_id": "x"})
    error = order_errors.find_error(replace(order_in(State.REJECTED), refusal=refusal))
    assert isinstance(error, errors.Error)
    assert (error.code, error.http_status, error.reason) == (code, http_status, reason)
    assert error.metadata == {"product_id": "x", "order_id": str(ORDER.order_id)}


def test_the_repr_of_an_order_has_no_payment_method() -> None:
    assert "pm_card_visa" not in repr(ORDER)


def test_an_order_waits_for_its_customer_for_a_limited_time_whatever_the_provider_shows() -> None:
    hidden = payment(PaymentState.REQUIRES_ACTION)
    waiting = domain.settle(order_in(State.PAYING), hidden)
    assert waiting.action == PaymentAction("", "")
    shown = PaymentAction("https://example.com/", "secret", MOMENT)
    order = replace(waiting, action=shown)
    assert domain.settle(order, hidden) is order
    order = replace(order, action=replace(shown, is_expired=True))
    for state in (PaymentState.REQUIRES_ACTION, PaymentState.UNKNOWN):
        assert domain.settle(order, payment(state)).state is State.CANCELLING
    assert domain.settle(order, payment(PaymentState.REQUIRES_CAPTURE)) is order


def test_a_failure_is_described_in_one_line_without_addresses() -> None:
    outage = errors.Unavailable("PEER_UNAVAILABLE", "Another service did not respond.")
    outage.__cause__ = ConnectionError("postgres at 10.0.0.1")
    assert from_outage(outage) == Failure("PEER_UNAVAILABLE: Another service did not respond.")
    outage.__cause__ = errors.FailedCallError(
        "ProcessPaymentsRequest: UNAVAILABLE", "ipv4:10.0.0.1:50054"
    )
    assert from_outage(outage) == Failure("PEER_UNAVAILABLE: ProcessPaymentsRequest: UNAVAILABLE")
    assert from_defect(ValueError("x" * 1_000)) == Failure(
        "ValueError: " + "x" * 488, is_defect=True
    )
    assert from_defect(ValueError("first\nsecond")) == Failure("ValueError: first", is_defect=True)
    assert from_defect(ValueError()) == Failure("ValueError: ", is_defect=True)
