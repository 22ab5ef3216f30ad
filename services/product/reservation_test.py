"""Allocation of stock, and state transitions of reservations."""

import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from chassis.money import Amount
from services.product import reservation
from services.product.reservation import (
    Line,
    PricedLine,
    PricedStock,
    Rejection,
    RejectionReason,
    Reservation,
    ReservationRequest,
    ReservationResult,
    State,
)

ORDER = uuid.UUID(int=100)
OTHER_ORDER = uuid.UUID(int=101)
LAMP = uuid.UUID(int=1)
CUP = uuid.UUID(int=2)
UNKNOWN = uuid.UUID(int=3)
PRICE = Amount(250, "GBP")
STOCK = {LAMP: PricedStock(5, PRICE), CUP: PricedStock(2, PRICE)}


def request(order_id: uuid.UUID, *lines: tuple[uuid.UUID, int]) -> ReservationRequest:
    return ReservationRequest(
        order_id, tuple(Line(product_id, quantity) for product_id, quantity in lines)
    )


products = st.integers(1, 6).map(lambda number: uuid.UUID(int=number))
lines = st.dictionaries(products, st.integers(1, 8), min_size=1).map(
    lambda found: tuple(Line(product_id, quantity) for product_id, quantity in found.items())
)
stocks = st.dictionaries(products, st.builds(PricedStock, st.integers(0, 20), st.just(PRICE)))
batches = st.lists(lines, max_size=12).map(
    lambda found: [
        ReservationRequest(uuid.UUID(int=1_000 + index), item) for index, item in enumerate(found)
    ]
)


@given(batches, stocks)
def test_allocate_never_oversells_and_reserves_all_lines_or_none(
    requests: list[ReservationRequest], stock: dict[uuid.UUID, PricedStock]
) -> None:
    results = reservation.allocate(requests, stock, State.RESERVED)
    taken: Counter[uuid.UUID] = Counter()
    for each, result in zip(requests, results, strict=True):
        assert result.order_id == each.order_id
        assert result.state in (State.RESERVED, State.REJECTED)
        served = tuple(Line(line.product_id, line.quantity) for line in result.lines)
        assert served == (each.lines if result.state == State.RESERVED else ())
        taken.update({line.product_id: line.quantity for line in served})
    for product_id, units in taken.items():
        assert units <= stock[product_id].available


@given(batches, stocks)
def test_allocate_rejects_only_requests_for_more_than_remains(
    requests: list[ReservationRequest], stock: dict[uuid.UUID, PricedStock]
) -> None:
    remaining = {product_id: found.available for product_id, found in stock.items()}
    for each, result in zip(
        requests, reservation.allocate(requests, stock, State.PINNED), strict=True
    ):
        fits = all(remaining.get(line.product_id, -1) >= line.quantity for line in each.lines)
        assert fits == (result.state == State.PINNED)
        if result.rejection is not None:
            short = result.rejection.product_id
            assert (short in stock) == (result.rejection.reason == RejectionReason.OUT_OF_STOCK)
            continue
        for line in result.lines:
            remaining[line.product_id] -= line.quantity


def test_allocate_names_the_product_that_is_out_of_stock() -> None:
    (result,) = reservation.allocate([request(ORDER, (LAMP, 5), (CUP, 3))], STOCK, State.RESERVED)
    assert result.rejection == Rejection(RejectionReason.OUT_OF_STOCK, CUP)
    assert result.error is not None
    assert (result.error.code, result.error.http_status) == ("FAILED_PRECONDITION", 409)
    assert result.error.metadata == {"product_id": str(CUP)}


def test_allocate_names_a_missing_product_before_one_that_is_out_of_stock() -> None:
    requests = [request(ORDER, (LAMP, 9), (UNKNOWN, 1))]
    (result,) = reservation.allocate(requests, STOCK, State.RESERVED)
    assert result.error is not None
    assert (result.error.code, result.error.reason) == ("NOT_FOUND", "PRODUCT_NOT_FOUND")
    assert result.error.metadata == {"product_id": str(UNKNOWN)}


def test_allocate_serves_requests_in_order() -> None:
    requests = [request(ORDER, (LAMP, 4)), request(OTHER_ORDER, (LAMP, 2))]
    states = [result.state for result in reservation.allocate(requests, STOCK, State.RESERVED)]
    assert states == [State.RESERVED, State.REJECTED]


HELD = (PricedLine(LAMP, 2, PRICE),)
SAME = request(ORDER, (LAMP, 2))


@pytest.mark.parametrize("state", [State.RESERVED, State.PINNED, State.COMMITTED])
def test_repeat_returns_the_reserved_prices(state: State) -> None:
    result = reservation.repeat(Reservation(ORDER, state), HELD, SAME, State.RESERVED)
    assert result == ReservationResult(ORDER, state, HELD)


def test_repeat_can_pin() -> None:
    result = reservation.repeat(Reservation(ORDER, State.RESERVED), HELD, SAME, State.PINNED)
    assert result.state == State.PINNED


@pytest.mark.parametrize(
    "other",
    [request(ORDER, (LAMP, 3)), request(ORDER, (LAMP, 2), (CUP, 1)), request(ORDER, (CUP, 2))],
)
def test_repeat_rejects_other_lines(other: ReservationRequest) -> None:
    result = reservation.repeat(Reservation(ORDER, State.RESERVED), HELD, other, State.PINNED)
    assert result.state == State.RESERVED
    assert result.error is not None
    assert result.error.reason == "RESERVATION_DIFFERS"


def test_repeat_returns_the_same_rejection() -> None:
    (first,) = reservation.allocate([request(ORDER, (CUP, 3))], STOCK, State.RESERVED)
    current = Reservation(ORDER, State.REJECTED, rejection=first.rejection)
    again = reservation.repeat(current, (), request(ORDER, (CUP, 3)), State.RESERVED)
    assert again.state == first.state
    assert again.error is not None
    assert first.error is not None
    assert (again.error.reason, again.error.metadata) == (first.error.reason, first.error.metadata)


REJECTED = Rejection(RejectionReason.OUT_OF_STOCK, CUP)
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


def reservation_in(situation: str) -> Reservation | None:
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
def test_each_step_in_each_state(
    verb: str, situation: str, state: State | None, reason: str
) -> None:
    result = getattr(reservation, verb)(ORDER, reservation_in(situation))
    assert result.state == state
    assert (result.error.reason if result.error else "") == reason


@pytest.mark.parametrize("verb", list(TRANSITIONS))
@pytest.mark.parametrize("situation", [name for name in TRANSITIONS["pin"] if name != "unknown"])
def test_each_step_is_idempotent(verb: str, situation: str) -> None:
    decide = getattr(reservation, verb)
    first = decide(ORDER, reservation_in(situation))
    current = reservation_in(situation)
    assert current is not None
    then = Reservation(
        ORDER, first.state, current.expired and first.state == State.RESERVED, current.rejection
    )
    again = decide(ORDER, then)
    assert again.state == first.state
    assert (again.error is None) == (first.error is None)
    if again.error and first.error:
        assert again.error.reason == first.error.reason


def test_check_requests_rejects_a_repeated_product() -> None:
    bad = request(ORDER, (LAMP, 1), (LAMP, 1))
    with pytest.raises(errors.Unprocessable, match=r"reservations\[1\]\.lines"):
        reservation.check_requests([request(OTHER_ORDER, (LAMP, 1)), bad])


def test_check_requests_rejects_a_repeated_order() -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        reservation.check_requests([request(ORDER, (LAMP, 1)), request(ORDER, (CUP, 1))])
    assert raised.value.reason == "DUPLICATE_ORDER"
