"""Reservations of stock by orders, and their state transitions. No I/O, no clock, no protobuf.

An order gets all of its lines or none. Every decision is final: a repeated request gets the same.
"""

import datetime as dt
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis import errors
from chassis.money import Amount
from chassis.violations import Violations
from services.product.domain import OutOfStock

LIFETIME = dt.timedelta(minutes=15)
"""How long a reservation lasts unless it is pinned."""


class State(enum.StrEnum):
    """The state of a reservation; the names are those of the proto."""

    RESERVED = "RESERVED"
    PINNED = "PINNED"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"
    REJECTED = "REJECTED"


class RejectionReason(enum.StrEnum):
    """Why a reservation was rejected; the names are the reasons of the errors."""

    OUT_OF_STOCK = "OUT_OF_STOCK"
    PRODUCT_NOT_FOUND = "PRODUCT_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Line:
    """A product and its quantity."""

    product_id: uuid.UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """A request to reserve stock for an order."""

    order_id: uuid.UUID
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class PricedStock:
    """How many units of a product are available, and the price of one."""

    available: int
    price: Amount


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A product, its quantity, and the price of one unit."""

    product_id: uuid.UUID
    quantity: int
    price: Amount


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a reservation was rejected, and because of which product."""

    reason: RejectionReason
    product_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Reservation:
    """The reservation of an order. Only one that is RESERVED can be `expired`."""

    order_id: uuid.UUID
    state: State
    expired: bool = False
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class ReservationResult:
    """The result of a step for an order. The state is None if it has no reservation."""

    order_id: uuid.UUID
    state: State | None
    lines: tuple[PricedLine, ...] = ()
    rejection: Rejection | None = None
    error: errors.Error | None = None


def check_requests(requests: Sequence[ReservationRequest]) -> None:
    """Check what the proto does not state of a batch of requests.

    Raises:
        errors.InvalidArgument: an order is repeated.
        errors.Unprocessable: a product is repeated in an order.
    """
    check_distinct([request.order_id for request in requests])
    violations = Violations()
    for index, request in enumerate(requests):
        distinct = len({line.product_id for line in request.lines}) == len(request.lines)
        violations.check(distinct, f"reservations[{index}].lines", "must not repeat a product")
    violations.raise_any()


def check_distinct(order_ids: Sequence[uuid.UUID]) -> None:
    """Check that no order is repeated in a batch.

    Raises:
        errors.InvalidArgument: one is.
    """
    if len(set(order_ids)) < len(order_ids):
        raise errors.InvalidArgument("DUPLICATE_ORDER", "An order is repeated in the batch.")


def allocate(
    requests: Sequence[ReservationRequest],
    stock: Mapping[uuid.UUID, PricedStock],
    granted: State,
) -> list[ReservationResult]:
    """Allocate stock to new reservations in request order; each gets all of its lines or none.

    `stock` is that of the existing products, which must be locked; `granted` is the state of
    the reservations that get stock, RESERVED or PINNED.
    """
    remaining = {product_id: found.available for product_id, found in stock.items()}
    results = []
    for request in requests:
        rejection = _find_rejection(request.lines, remaining)
        if rejection is None:
            for line in request.lines:
                remaining[line.product_id] -= line.quantity
            lines = tuple(
                PricedLine(line.product_id, line.quantity, stock[line.product_id].price)
                for line in request.lines
            )
            results.append(ReservationResult(request.order_id, granted, lines))
        else:
            results.append(_reject(request.order_id, rejection))
    return results


def repeat(
    reservation: Reservation,
    lines: tuple[PricedLine, ...],
    request: ReservationRequest,
    granted: State,
) -> ReservationResult:
    """Return the result of a repeated request, which is that of the first.

    A reservation that is RESERVED gets the state `granted`, which may be PINNED.
    """
    if (final := _find_final_result(reservation)) is not None:
        return final
    if {(line.product_id, line.quantity) for line in lines} != {
        (line.product_id, line.quantity) for line in request.lines
    }:
        message = "The order has reserved other lines."
        error = errors.KeyReused("RESERVATION_DIFFERS", message, metadata=_metadata(reservation))
        return ReservationResult(reservation.order_id, reservation.state, error=error)
    state = granted if reservation.state == State.RESERVED else reservation.state
    return ReservationResult(reservation.order_id, state, lines)


def pin(order_id: uuid.UUID, reservation: Reservation | None) -> ReservationResult:
    """Pin the reservation of an order whose charge begins, unless it expired."""
    if reservation is None:
        return _not_found(order_id)
    state = State.PINNED if reservation.state == State.RESERVED else reservation.state
    return _find_final_result(reservation) or ReservationResult(order_id, state)


def commit(order_id: uuid.UUID, reservation: Reservation | None) -> ReservationResult:
    """Commit the pinned reservation of an order that is paid."""
    if reservation is None:
        return _not_found(order_id)
    if reservation.state == State.RESERVED and not reservation.expired:
        message = "The reservation of the order is not pinned."
        error = errors.FailedPrecondition("NOT_PINNED", message, metadata=_metadata(reservation))
        return ReservationResult(order_id, reservation.state, error=error)
    return _find_final_result(reservation) or ReservationResult(order_id, State.COMMITTED)


def release(order_id: uuid.UUID, reservation: Reservation | None) -> ReservationResult:
    """Release the reservation of an order that is cancelled, which prevents any later one."""
    if reservation is None:
        return ReservationResult(order_id, State.RELEASED)
    if reservation.state == State.COMMITTED:
        message = "The stock of the order is sold."
        error = errors.FailedPrecondition(
            "ORDER_COMMITTED", message, metadata=_metadata(reservation)
        )
        return ReservationResult(order_id, reservation.state, error=error)
    if reservation.state == State.REJECTED:
        return ReservationResult(order_id, reservation.state, rejection=reservation.rejection)
    return ReservationResult(order_id, State.RELEASED)


def _find_rejection(lines: Sequence[Line], remaining: Mapping[uuid.UUID, int]) -> Rejection | None:
    for line in lines:
        if line.product_id not in remaining:
            return Rejection(RejectionReason.PRODUCT_NOT_FOUND, line.product_id)
    for line in lines:
        if remaining[line.product_id] < line.quantity:
            return Rejection(RejectionReason.OUT_OF_STOCK, line.product_id)
    return None


def _find_final_result(reservation: Reservation) -> ReservationResult | None:
    if reservation.rejection is not None:
        return _reject(reservation.order_id, reservation.rejection)
    if reservation.state == State.RELEASED or reservation.expired:
        message = "The reservation of the order was released, and cannot be made again."
        error = errors.FailedPrecondition(
            "ORDER_RELEASED", message, metadata=_metadata(reservation)
        )
        return ReservationResult(reservation.order_id, State.RELEASED, error=error)
    return None


def _reject(order_id: uuid.UUID, rejection: Rejection) -> ReservationResult:
    error: errors.Error
    if rejection.reason == RejectionReason.OUT_OF_STOCK:
        error = OutOfStock(
            rejection.reason,
            "There are not enough units of a product.",
            metadata={"product_id": str(rejection.product_id)},
        )
    else:
        error = errors.not_found("product", rejection.product_id)
    return ReservationResult(order_id, State.REJECTED, rejection=rejection, error=error)


def _not_found(order_id: uuid.UUID) -> ReservationResult:
    message = "The order has no reservation."
    error = errors.NotFound("RESERVATION_NOT_FOUND", message, metadata={"order_id": str(order_id)})
    return ReservationResult(order_id, None, error=error)


def _metadata(reservation: Reservation) -> dict[str, str]:
    return {"order_id": str(reservation.order_id)}
