"""What orders hold of the stock: who gets some, and how a hold moves. No I/O, clock, wire format.

An order is served whole or not at all, and each decision is final: asked again, it is the same.
"""

import datetime as dt
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis import errors
from chassis.money import Amount
from services.product.domain import OutOfStock, product_not_found

LIFETIME = dt.timedelta(minutes=15)
"""How long a reservation lasts that is not pinned."""


class State(enum.StrEnum):
    """Where a reservation stands; the names are those of the contract."""

    RESERVED = "RESERVED"
    PINNED = "PINNED"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    REJECTED = "REJECTED"


class Obstacle(enum.StrEnum):
    """Why an order was refused; the names are the reasons that clients see."""

    OUT_OF_STOCK = "OUT_OF_STOCK"
    PRODUCT_NOT_FOUND = "PRODUCT_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Line:
    """Units of a product."""

    product_id: uuid.UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What an order wants."""

    order_id: uuid.UUID
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """How many units of a product are free, and what one costs."""

    available: int
    price: Amount


@dataclass(frozen=True, slots=True)
class PricedLine:
    """Units of a product, at what one of them costs."""

    product_id: uuid.UUID
    quantity: int
    price: Amount


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an order was refused, and over which product."""

    obstacle: Obstacle
    product_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Reservation:
    """What an order holds, or was refused for. Only one that is RESERVED can be `expired`."""

    order_id: uuid.UUID
    state: State
    expired: bool = False
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order. There is no state where the order is not known."""

    order_id: uuid.UUID
    state: State | None
    lines: tuple[PricedLine, ...] = ()
    rejection: Rejection | None = None
    error: errors.Error | None = None


def check_demands(demands: Sequence[Demand]) -> None:
    """Check what the contract does not say of a batch of demands.

    Raises:
        errors.InvalidArgument: an order is in it twice.
        errors.Unprocessable: a product is in an order twice.
    """
    check_distinct([demand.order_id for demand in demands])
    violations = errors.Violations()
    for index, demand in enumerate(demands):
        distinct = len({line.product_id for line in demand.lines}) == len(demand.lines)
        violations.check(distinct, f"reservations[{index}].lines", "must not name a product twice")
    violations.raise_any()


def check_distinct(order_ids: Sequence[uuid.UUID]) -> None:
    """Check that no order is in a batch twice.

    Raises:
        errors.InvalidArgument: one is.
    """
    if len(set(order_ids)) < len(order_ids):
        raise errors.InvalidArgument("DUPLICATE_ORDER", "An order is in the batch twice.")


def allocate(
    demands: Sequence[Demand], offers: Mapping[uuid.UUID, Offer], granted: State
) -> list[Outcome]:
    """Decide who gets stock: first come, first served; each order all that it wants or nothing.

    `offers` are the products that exist, and must be locked. Those served get the state `granted`.
    """
    left = {product_id: offer.available for product_id, offer in offers.items()}
    outcomes = []
    for demand in demands:
        rejection = _find_obstacle(demand.lines, left)
        if rejection is None:
            for line in demand.lines:
                left[line.product_id] -= line.quantity
            lines = tuple(
                PricedLine(line.product_id, line.quantity, offers[line.product_id].price)
                for line in demand.lines
            )
            outcomes.append(Outcome(demand.order_id, granted, lines))
        else:
            outcomes.append(_reject(demand.order_id, rejection))
    return outcomes


def repeat(
    held: Reservation, lines: tuple[PricedLine, ...], demand: Demand, granted: State
) -> Outcome:
    """Decide on an order that asked before: the answer is what it was given then.

    `granted` may be PINNED where it was RESERVED before.
    """
    refused = _refuse_final(held)
    if refused is not None:
        return refused
    if {(line.product_id, line.quantity) for line in lines} != {
        (line.product_id, line.quantity) for line in demand.lines
    }:
        message = "The order reserved other lines before."
        error = errors.KeyReused("RESERVATION_DIFFERS", message, metadata=_about(held))
        return Outcome(held.order_id, held.state, error=error)
    state = granted if held.state == State.RESERVED else held.state
    return Outcome(held.order_id, state, lines)


def pin(order_id: uuid.UUID, held: Reservation | None) -> Outcome:
    """Decide on an order whose charge begins: what it holds is kept, unless it expired."""
    if held is None:
        return _unknown(order_id)
    state = State.PINNED if held.state == State.RESERVED else held.state
    return _refuse_final(held) or Outcome(order_id, state)


def commit(order_id: uuid.UUID, held: Reservation | None) -> Outcome:
    """Decide on an order that is paid: what was pinned is sold."""
    if held is None:
        return _unknown(order_id)
    if held.state == State.RESERVED and not held.expired:
        message = "The reservation of the order was not pinned before."
        error = errors.FailedPrecondition("NOT_PINNED", message, metadata=_about(held))
        return Outcome(order_id, held.state, error=error)
    return _refuse_final(held) or Outcome(order_id, State.COMMITTED)


def release(order_id: uuid.UUID, held: Reservation | None) -> Outcome:
    """Decide on an order that is called off: what it holds goes back, and it never gets more."""
    if held is None:
        return Outcome(order_id, State.RELEASED)
    if held.state == State.COMMITTED:
        message = "The stock of the order is sold."
        error = errors.FailedPrecondition("ORDER_COMMITTED", message, metadata=_about(held))
        return Outcome(order_id, held.state, error=error)
    if held.state == State.REJECTED:
        return Outcome(order_id, held.state, rejection=held.rejection)
    return Outcome(order_id, State.RELEASED)


def _find_obstacle(lines: Sequence[Line], left: Mapping[uuid.UUID, int]) -> Rejection | None:
    for line in lines:
        if line.product_id not in left:
            return Rejection(Obstacle.PRODUCT_NOT_FOUND, line.product_id)
    for line in lines:
        if left[line.product_id] < line.quantity:
            return Rejection(Obstacle.OUT_OF_STOCK, line.product_id)
    return None


def _refuse_final(held: Reservation) -> Outcome | None:
    if held.rejection is not None:
        return _reject(held.order_id, held.rejection)
    if held.state == State.RELEASED or held.expired:
        message = "What the order held was released, and it cannot hold any again."
        error = errors.FailedPrecondition("ORDER_RELEASED", message, metadata=_about(held))
        return Outcome(held.order_id, State.RELEASED, error=error)
    return None


def _reject(order_id: uuid.UUID, rejection: Rejection) -> Outcome:
    error: errors.Error
    if rejection.obstacle == Obstacle.OUT_OF_STOCK:
        error = OutOfStock(
            rejection.obstacle,
            "There are not enough units of a product.",
            metadata={"product_id": str(rejection.product_id)},
        )
    else:
        error = product_not_found(rejection.product_id)
    return Outcome(order_id, State.REJECTED, rejection=rejection, error=error)


def _unknown(order_id: uuid.UUID) -> Outcome:
    message = "The order never reserved any stock."
    error = errors.NotFound("RESERVATION_NOT_FOUND", message, metadata={"order_id": str(order_id)})
    return Outcome(order_id, None, error=error)


def _about(held: Reservation) -> dict[str, str]:
    return {"order_id": str(held.order_id)}
