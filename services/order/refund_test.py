"""Rules of refunds."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.money import Amount
from services.order import domain, refund
from services.order.domain import Conflict, Line, Order, State
from services.order.refund import NewRefund, Refund, RefundState

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
LAMP, CUP = uuid.UUID(int=1), uuid.UUID(int=2)
CONFIRMED = Order(
    uuid.UUID(int=3),
    uuid.UUID(int=4),
    "k",
    b"",
    "pm",
    NOW,
    NOW,
    lines=(Line(LAMP, 3, 3_00), Line(CUP, 1, 1_00)),
    state=State.CONFIRMED,
    version=3,
    total=Amount(10_00, "GBP"),
)


def new(minor: int | None = None, **restock: int) -> NewRefund:
    ids = {"lamp": LAMP, "cup": CUP}
    amount = None if minor is None else Amount(minor, "GBP")
    return NewRefund("r", amount, tuple(Line(ids[name], count) for name, count in restock.items()))


def accepted(minor: int) -> Refund:
    amount = Amount(minor, "GBP")
    return Refund(CONFIRMED.order_id, 1, "r", b"", amount, (), RefundState.PENDING, NOW, NOW)


def reason(order: Order, request: NewRefund, **restocked: int) -> str:
    ids = {"lamp": LAMP, "cup": CUP}
    with pytest.raises(Conflict) as caught:
        refund.begin(order, request, {ids[name]: count for name, count in restocked.items()})
    return caught.value.reason


@pytest.mark.parametrize("state", [State.CONFIRMED, State.SHIPPED, State.DELIVERED])
def test_a_new_refund_is_noted_on_its_order(state: State) -> None:
    order, amount = refund.begin(replace(CONFIRMED, state=state), new(4_00), {})
    assert amount == Amount(4_00, "GBP")
    assert (order.state, order.version) == (state, 4)
    assert (order.refunded_minor, order.pending_refunds) == (4_00, 1)


def test_a_refund_without_an_amount_is_of_what_remains() -> None:
    _, amount = refund.begin(replace(CONFIRMED, refunded_minor=6_00), new(), {})
    assert amount == Amount(4_00, "GBP")


@pytest.mark.parametrize(
    "state", sorted(set(State) - {State.CONFIRMED, State.SHIPPED, State.DELIVERED})
)
def test_an_order_that_is_not_charged_cannot_be_refunded(state: State) -> None:
    assert reason(replace(CONFIRMED, state=state), new()) == "ORDER_NOT_REFUNDABLE"


@pytest.mark.parametrize(("refunded_minor", "minor"), [(6_00, 4_01), (10_00, None), (10_00, 1)])
def test_no_more_is_refunded_than_remains(refunded_minor: int, minor: int | None) -> None:
    order = replace(CONFIRMED, refunded_minor=refunded_minor)
    assert reason(order, new(minor)) == "REFUND_EXCEEDS_TOTAL"


def test_a_refund_is_in_the_currency_of_the_order() -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        refund.begin(CONFIRMED, NewRefund("r", Amount(1, "EUR"), ()), {})
    assert [each.field for each in caught.value.violations] == ["amount.currency_code"]


def test_no_more_units_are_restocked_than_are_left() -> None:
    refund.begin(CONFIRMED, new(1, lamp=2), {LAMP: 1})
    assert reason(CONFIRMED, new(1, lamp=3), lamp=1) == "RESTOCK_EXCEEDS_ORDER"
    order = replace(CONFIRMED, lines=CONFIRMED.lines[:1])
    assert reason(order, new(1, cup=1)) == "RESTOCK_EXCEEDS_ORDER"


def test_the_pending_refunds_of_an_order_are_bounded() -> None:
    order = replace(CONFIRMED, pending_refunds=refund.MAX_PENDING)
    assert reason(order, new(1)) == "TOO_MANY_PENDING_REFUNDS"


@pytest.mark.parametrize(
    ("state", "refunded_minor"), [(RefundState.SUCCEEDED, 4_00), (RefundState.FAILED, 0)]
)
def test_a_failed_refund_gives_back_what_it_noted(state: RefundState, refunded_minor: int) -> None:
    noted, _ = refund.begin(CONFIRMED, new(4_00), {})
    order, settled = refund.settle(noted, accepted(4_00), state)
    assert (order.refunded_minor, order.pending_refunds, order.version) == (refunded_minor, 0, 5)
    assert settled.state is state
    error = refund.find_error(settled)
    assert (error and error.reason) == ("REFUND_FAILED" if refunded_minor == 0 else None)


@pytest.mark.parametrize(
    "other",
    [
        new(None, lamp=1, cup=1),
        new(4_01, lamp=1, cup=1),
        new(4_00, lamp=1),
        new(4_00, lamp=2, cup=1),
    ],
    ids=str,
)
def test_a_key_stands_for_one_request(other: NewRefund) -> None:
    first = new(4_00, cup=1, lamp=1)
    recorded = replace(accepted(4_00), request_hash=refund.hash_request(first))
    refund.check_same_request(recorded, first)
    refund.check_same_request(recorded, new(4_00, lamp=1, cup=1))
    with pytest.raises(errors.KeyReused):
        refund.check_same_request(recorded, other)


def test_check_new_refund_names_the_invalid_fields() -> None:
    with pytest.raises(errors.Unprocessable) as caught:
        refund.check_new_refund(NewRefund("r", Amount(0, "GBP"), (Line(LAMP, 1), Line(LAMP, 1))))
    assert [each.field for each in caught.value.violations] == ["amount", "restock"]


@pytest.mark.parametrize(("refunded_minor", "shipped"), [(9_99, True), (10_00, False)])
def test_an_order_that_is_refunded_as_a_whole_is_not_shipped(
    refunded_minor: int, *, shipped: bool
) -> None:
    order = replace(CONFIRMED, refunded_minor=refunded_minor)
    if shipped:
        assert domain.update_status(order, State.SHIPPED).state is State.SHIPPED
        return
    with pytest.raises(Conflict) as caught:
        domain.update_status(order, State.SHIPPED)
    assert caught.value.reason == "ORDER_REFUNDED"
