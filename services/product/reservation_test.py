"""Who gets stock, and how what an order holds moves: decided in memory, so checked in memory."""

import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from chassis.money import Amount
from services.product import reservation
from services.product.reservation import (
    Demand,
    Line,
    Obstacle,
    Offer,
    Outcome,
    PricedLine,
    Rejection,
    Reservation,
    State,
)

ORDER = uuid.UUID(int=100)
OTHER_ORDER = uuid.UUID(int=101)
LAMP = uuid.UUID(int=1)
CUP = uuid.UUID(int=2)
UNKNOWN = uuid.UUID(int=3)
PRICE = Amount(250, "GBP")
OFFERS = {LAMP: Offer(5, PRICE), CUP: Offer(2, PRICE)}


def demand(order_id: uuid.UUID, *lines: tuple[uuid.UUID, int]) -> Demand:
    return Demand(order_id, tuple(Line(product_id, quantity) for product_id, quantity in lines))


products = st.integers(1, 6).map(lambda number: uuid.UUID(int=number))
lines = st.dictionaries(products, st.integers(1, 8), min_size=1).map(
    lambda wanted: tuple(Line(product_id, quantity) for product_id, quantity in wanted.items())
)
offers = st.dictionaries(products, st.builds(Offer, st.integers(0, 20), st.just(PRICE)))
demands = st.lists(lines, max_size=12).map(
    lambda found: [Demand(uuid.UUID(int=1_000 + index), item) for index, item in enumerate(found)]
)


@given(demands, offers)
def test_allocate_never_oversells_and_serves_all_or_nothing(
    wanted: list[Demand], stock: dict[uuid.UUID, Offer]
) -> None:
    outcomes = reservation.allocate(wanted, stock, State.RESERVED)
    taken: Counter[uuid.UUID] = Counter()
    for asked, outcome in zip(wanted, outcomes, strict=True):
        assert outcome.order_id == asked.order_id
        assert outcome.state in (State.RESERVED, State.REJECTED)
        served = tuple(Line(line.product_id, line.quantity) for line in outcome.lines)
        assert served == (asked.lines if outcome.state == State.RESERVED else ())
        taken.update({line.product_id: line.quantity for line in served})
    for product_id, units in taken.items():
        assert units <= stock[product_id].available


@given(demands, offers)
def test_allocate_refuses_only_what_those_before_left_too_little_for(
    wanted: list[Demand], stock: dict[uuid.UUID, Offer]
) -> None:
    left = {product_id: offer.available for product_id, offer in stock.items()}
    for asked, outcome in zip(
        wanted, reservation.allocate(wanted, stock, State.PINNED), strict=True
    ):
        fits = all(left.get(line.product_id, -1) >= line.quantity for line in asked.lines)
        assert fits == (outcome.state == State.PINNED)
        if outcome.rejection is not None:
            short = outcome.rejection.product_id
            assert (short in stock) == (outcome.rejection.obstacle == Obstacle.OUT_OF_STOCK)
            continue
        for line in outcome.lines:
            left[line.product_id] -= line.quantity


def test_allocate_names_the_product_that_is_short() -> None:
    (outcome,) = reservation.allocate([demand(ORDER, (LAMP, 5), (CUP, 3))], OFFERS, State.RESERVED)
    assert outcome.rejection == Rejection(Obstacle.OUT_OF_STOCK, CUP)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.http_status) == ("FAILED_PRECONDITION", 409)
    assert outcome.error.metadata == {"product_id": str(CUP)}


def test_allocate_names_the_product_that_does_not_exist_before_one_that_is_short() -> None:
    wanted = [demand(ORDER, (LAMP, 9), (UNKNOWN, 1))]
    (outcome,) = reservation.allocate(wanted, OFFERS, State.RESERVED)
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.reason) == ("NOT_FOUND", "PRODUCT_NOT_FOUND")
    assert outcome.error.metadata == {"product_id": str(UNKNOWN)}


def test_allocate_serves_who_comes_first() -> None:
    wanted = [demand(ORDER, (LAMP, 4)), demand(OTHER_ORDER, (LAMP, 2))]
    states = [outcome.state for outcome in reservation.allocate(wanted, OFFERS, State.RESERVED)]
    assert states == [State.RESERVED, State.REJECTED]


HELD = (PricedLine(LAMP, 2, PRICE),)
SAME = demand(ORDER, (LAMP, 2))


@pytest.mark.parametrize("state", [State.RESERVED, State.PINNED, State.COMMITTED])
def test_repeat_gives_the_prices_of_then(state: State) -> None:
    outcome = reservation.repeat(Reservation(ORDER, state), HELD, SAME, State.RESERVED)
    assert outcome == Outcome(ORDER, state, HELD)


def test_repeat_may_pin() -> None:
    outcome = reservation.repeat(Reservation(ORDER, State.RESERVED), HELD, SAME, State.PINNED)
    assert outcome.state == State.PINNED


@pytest.mark.parametrize(
    "other", [demand(ORDER, (LAMP, 3)), demand(ORDER, (LAMP, 2), (CUP, 1)), demand(ORDER, (CUP, 2))]
)
def test_repeat_refuses_other_lines(other: Demand) -> None:
    outcome = reservation.repeat(Reservation(ORDER, State.RESERVED), HELD, other, State.PINNED)
    assert outcome.state == State.RESERVED
    assert outcome.error is not None
    assert outcome.error.reason == "RESERVATION_DIFFERS"


def test_repeat_refuses_again_what_was_refused() -> None:
    (first,) = reservation.allocate([demand(ORDER, (CUP, 3))], OFFERS, State.RESERVED)
    held = Reservation(ORDER, State.REJECTED, rejection=first.rejection)
    again = reservation.repeat(held, (), demand(ORDER, (CUP, 3)), State.RESERVED)
    assert again.state == first.state
    assert again.error is not None
    assert first.error is not None
    assert (again.error.reason, again.error.metadata) == (first.error.reason, first.error.metadata)


REJECTED = Rejection(Obstacle.OUT_OF_STOCK, CUP)
TRANSITIONS: dict[str, dict[str, tuple[State | None, str]]] = {
    "pin": {
        "unknown": (None, "RESERVATION_NOT_FOUND"),
        "RESERVED": (State.PINNED, ""),
        "expired": (State.RELEASED, "ORDER_RELEASED"),
        "PINNED": (State.PINNED, ""),
        "COMMITTED": (State.COMMITTED, ""),
        "RELEASED": (State.RELEASED, "ORDER_RELEASED"),
        "REJECTED": (State.REJECTED, "OUT_OF_STOCK"),
    },
    "commit": {
        "unknown": (None, "RESERVATION_NOT_FOUND"),
        "RESERVED": (State.RESERVED, "NOT_PINNED"),
        "expired": (State.RELEASED, "ORDER_RELEASED"),
        "PINNED": (State.COMMITTED, ""),
        "COMMITTED": (State.COMMITTED, ""),
        "RELEASED": (State.RELEASED, "ORDER_RELEASED"),
        "REJECTED": (State.REJECTED, "OUT_OF_STOCK"),
    },
    "release": {
        "unknown": (State.RELEASED, ""),
        "RESERVED": (State.RELEASED, ""),
        "expired": (State.RELEASED, ""),
        "PINNED": (State.RELEASED, ""),
        "COMMITTED": (State.COMMITTED, "ORDER_COMMITTED"),
        "RELEASED": (State.RELEASED, ""),
        "REJECTED": (State.REJECTED, ""),
    },
}


def held_in(situation: str) -> Reservation | None:
    match situation:
        case "unknown":
            return None
        case "expired":
            return Reservation(ORDER, State.RESERVED, expired=True)
        case "REJECTED":
            return Reservation(ORDER, State.REJECTED, rejection=REJECTED)
        case _:
            return Reservation(ORDER, State(situation))


@pytest.mark.parametrize(
    ("verb", "situation", "state", "reason"),
    [
        (verb, situation, state, reason)
        for verb, rows in TRANSITIONS.items()
        for situation, (state, reason) in rows.items()
    ],
)
def test_each_verb_in_each_state(
    verb: str, situation: str, state: State | None, reason: str
) -> None:
    outcome = getattr(reservation, verb)(ORDER, held_in(situation))
    assert outcome.state == state
    assert (outcome.error.reason if outcome.error else "") == reason


@pytest.mark.parametrize("verb", list(TRANSITIONS))
@pytest.mark.parametrize("situation", [name for name in TRANSITIONS["pin"] if name != "unknown"])
def test_each_verb_answers_the_same_when_it_is_repeated(verb: str, situation: str) -> None:
    decide = getattr(reservation, verb)
    first = decide(ORDER, held_in(situation))
    held = held_in(situation)
    assert held is not None
    then = Reservation(
        ORDER, first.state, held.expired and first.state == State.RESERVED, held.rejection
    )
    again = decide(ORDER, then)
    assert again.state == first.state
    assert (again.error is None) == (first.error is None)
    if again.error and first.error:
        assert again.error.reason == first.error.reason


def test_check_demands_rejects_a_product_that_is_twice_in_an_order() -> None:
    bad = demand(ORDER, (LAMP, 1), (LAMP, 1))
    with pytest.raises(errors.Unprocessable, match=r"reservations\[1\]\.lines"):
        reservation.check_demands([demand(OTHER_ORDER, (LAMP, 1)), bad])


def test_check_demands_rejects_an_order_that_comes_twice() -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        reservation.check_demands([demand(ORDER, (LAMP, 1)), demand(ORDER, (CUP, 1))])
    assert raised.value.reason == "DUPLICATE_ORDER"
