"""The states of an order and what may follow what, without I/O."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.order import domain
from services.order.domain import Line, Order, Payment, PaymentState, Refusal, State

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

# Written out once more and in another form than in the domain, so that a slip there is seen here.
ALLOWED = """
PENDING RESERVED | PENDING REJECTED | PENDING CANCELLING | RESERVED PAYING | RESERVED CANCELLING
PAYING PAID | PAYING CANCELLING | PAID CONFIRMED | CANCELLING CANCELLED | CANCELLING PAID
CONFIRMED SHIPPED | SHIPPED DELIVERED
"""
MOVES = {tuple(move.split()) for line in ALLOWED.split("\n") for move in line.split("|") if move}


def order_in(state: State) -> Order:
    return replace(ORDER, state=state)


def payment(state: PaymentState) -> Payment:
    return Payment(uuid.UUID(int=9), state, "card_declined")


@pytest.mark.parametrize("after", State)
@pytest.mark.parametrize("before", State)
def test_move_allows_what_may_follow_and_nothing_else(before: State, after: State) -> None:
    if (before, after) in MOVES:
        assert domain.move(order_in(before), after) == order_in(after)
        return
    with pytest.raises(domain.Conflict) as raised:
        domain.move(order_in(before), after)
    assert raised.value.reason == "ILLEGAL_STATE_CHANGE"


def test_an_order_can_always_come_to_an_end() -> None:
    final = set(State) - domain.ACTIVE
    reaching = final
    while more := {s for s in State if domain.TRANSITIONS[s] & reaching} - reaching:
        reaching = reaching | more
    assert reaching == set(State)


def test_nothing_leads_back_to_a_state_that_was_left() -> None:
    def follow(state: State, seen: tuple[State, ...]) -> None:
        assert state not in seen
        for after in domain.TRANSITIONS[state]:
            follow(after, (*seen, state))

    follow(State.PENDING, ())


def test_reserve_prices_the_lines_and_adds_them_up() -> None:
    reserved = domain.reserve(ORDER, PRICES)
    assert reserved.state is State.RESERVED
    assert reserved.lines == (Line(LAMP, 2, 300), Line(BULB, 5, 199))
    assert reserved.total == Amount(1_595, "GBP")


def test_reserve_takes_an_order_in_two_currencies_back() -> None:
    taken_back = domain.reserve(ORDER, {**PRICES, BULB: Amount(199, "EUR")})
    assert taken_back.state is State.CANCELLING
    assert taken_back.refusal is not None
    assert taken_back.refusal.reason == "CURRENCY_MISMATCH"
    assert taken_back.total is None


@pytest.mark.parametrize(("excess", "state"), [(0, State.RESERVED), (1, State.CANCELLING)])
def test_reserve_bounds_the_total(excess: int, state: State) -> None:
    order = replace(ORDER, lines=(Line(LAMP, 1),))
    prices = {LAMP: Amount(domain.MAX_TOTAL_MINOR + excess, "GBP")}
    assert domain.reserve(order, prices).state is state


@pytest.mark.parametrize("state", [State.PAYING, State.CANCELLING])
def test_settle_goes_forward_with_a_charge_that_succeeded(state: State) -> None:
    order = replace(order_in(state), refusal=REFUSAL)
    paid = domain.settle(order, payment(PaymentState.SUCCEEDED))
    assert (paid.state, paid.payment_id, paid.refusal) == (State.PAID, uuid.UUID(int=9), None)


@pytest.mark.parametrize("state", [State.PAYING, State.CANCELLING])
def test_settle_waits_for_an_outcome(state: State) -> None:
    order = order_in(state)
    assert domain.settle(order, payment(PaymentState.UNKNOWN)) is order


def test_settle_takes_a_declined_order_back_and_says_why() -> None:
    declined = domain.settle(order_in(State.PAYING), payment(PaymentState.DECLINED))
    assert declined.state is State.CANCELLING
    assert declined.refusal is not None
    assert declined.refusal.reason == "PAYMENT_DECLINED"
    assert declined.refusal.metadata == {"decline_reason": "card_declined"}


def test_settle_takes_an_order_back_whose_payment_was_cancelled() -> None:
    cancelled = domain.settle(order_in(State.PAYING), payment(PaymentState.CANCELLED))
    assert cancelled.state is State.CANCELLING
    assert cancelled.refusal is not None
    assert cancelled.refusal.reason == "ORDER_CANCELLED"


@pytest.mark.parametrize("state", State)
def test_request_cancel_stops_an_order_before_it_is_paid(state: State) -> None:
    order = order_in(state)
    if state in {State.CANCELLING, State.CANCELLED}:
        assert domain.request_cancel(order) is order
    elif state in {State.PENDING, State.RESERVED, State.PAYING}:
        cancelling = domain.request_cancel(order)
        assert (cancelling.state, cancelling.cancel_requested) == (State.CANCELLING, True)
    else:
        with pytest.raises(domain.Conflict) as raised:
            domain.request_cancel(order)
        assert raised.value.reason == "ORDER_NOT_CANCELLABLE"


@pytest.mark.parametrize("after", State)
@pytest.mark.parametrize("before", State)
def test_update_status_ships_and_delivers_and_does_nothing_else(
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
def test_find_error_is_silent_about_orders_that_are_placed_only(state: State) -> None:
    refused = state in {State.REJECTED, State.CANCELLED}
    error = domain.find_error(replace(order_in(state), refusal=REFUSAL if refused else None))
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
def test_find_error_repeats_a_refusal(reason: str, code: str, http_status: int | None) -> None:
    refusal = Refusal(reason, "No.", {"product_id": "x"})
    error = domain.find_error(replace(order_in(State.REJECTED), refusal=refusal))
    assert isinstance(error, errors.Error)
    assert (error.code, error.http_status, error.reason) == (code, http_status, reason)
    assert error.metadata == {"product_id": "x", "order_id": str(ORDER.order_id)}


def test_an_order_does_not_show_its_payment_method() -> None:
    assert "pm_card_visa" not in repr(ORDER)
