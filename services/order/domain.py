"""What an order is and how it goes from state to state. No I/O, no clock, no wire format.

What a client may ask for is in `placement`.
"""

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chassis import errors
from chassis.money import Amount

MAX_TOTAL_MINOR = 10**12
"""The largest total: within what Money may be in any currency, and far within 64 bits."""

Key = tuple[uuid.UUID, str]
"""What finds an order that was placed before: the user and the client's key."""


class State(StrEnum):
    """Where an order stands; `TRANSITIONS` says what may follow."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    PAYING = "PAYING"
    PAID = "PAID"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.RESERVED, State.REJECTED, State.CANCELLING}),
    State.RESERVED: frozenset({State.PAYING, State.CANCELLING}),
    State.PAYING: frozenset({State.PAID, State.CANCELLING}),
    State.PAID: frozenset({State.CONFIRMED}),
    # A cancelled charge may turn out to have succeeded: then the order goes forward.
    State.CANCELLING: frozenset({State.CANCELLED, State.PAID}),
    State.CONFIRMED: frozenset({State.SHIPPED}),
    State.SHIPPED: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
    State.REJECTED: frozenset(),
    State.CANCELLED: frozenset(),
}
ACTIVE = frozenset({State.PENDING, State.RESERVED, State.PAYING, State.PAID, State.CANCELLING})
"""The states in which an order still has to be driven on."""
CANCELLABLE = frozenset({State.PENDING, State.RESERVED, State.PAYING})
ANNOUNCED = frozenset({State.CONFIRMED})
"""The states whose arrival is an event for other systems."""


class PaymentState(StrEnum):
    """What became of a charge; UNKNOWN until the provider has decided."""

    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    CANCELLED = "CANCELLED"


class Conflict(errors.FailedPrecondition):
    """The order cannot be served as things are."""

    http_status = 409


class PaymentDeclined(errors.FailedPrecondition):
    """The provider refused the charge."""

    http_status = 402


_REFUSALS: Mapping[str, type[errors.Error]] = {
    "PRODUCT_NOT_FOUND": errors.NotFound,
    "CURRENCY_MISMATCH": errors.Unprocessable,
    "TOTAL_TOO_LARGE": errors.Unprocessable,
    "PAYMENT_DECLINED": PaymentDeclined,
}
"""The errors of refusals; of any other reason, OUT_OF_STOCK among them, it is `Conflict`."""


@dataclass(frozen=True, slots=True)
class Line:
    """A product and how many of it; the price is known once the stock is reserved."""

    product_id: uuid.UUID
    quantity: int
    unit_price_minor: int | None = None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What a client asks for."""

    user_id: uuid.UUID
    idempotency_key: str
    payment_method: str = field(repr=False)
    lines: tuple[Line, ...]

    @property
    def key(self) -> Key:
        """What finds the order again."""
        return self.user_id, self.idempotency_key


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order was not served: all it takes to say so again."""

    reason: str
    message: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """An order that the shop has taken. `version` counts the changes."""

    order_id: uuid.UUID
    user_id: uuid.UUID
    idempotency_key: str
    request_hash: bytes = field(repr=False)
    payment_method: str = field(repr=False)
    create_time: dt.datetime
    update_time: dt.datetime
    lines: tuple[Line, ...]
    state: State = State.PENDING
    version: int = 1
    total: Amount | None = None
    payment_id: uuid.UUID | None = None
    refusal: Refusal | None = None
    cancel_requested: bool = False

    @property
    def key(self) -> Key:
        """What finds the order again."""
        return self.user_id, self.idempotency_key


@dataclass(frozen=True, slots=True)
class Payment:
    """What became of the charge for an order."""

    payment_id: uuid.UUID
    state: PaymentState
    decline_reason: str


def move(order: Order, state: State) -> Order:
    """Return the order in another state.

    Raises:
        Conflict: that state does not follow.
    """
    if state not in TRANSITIONS[order.state]:
        message = f"An order that is {order.state} does not become {state}."
        raise Conflict("ILLEGAL_STATE_CHANGE", message, metadata=_about(order))
    return replace(order, state=state)


def reserve(order: Order, prices: Mapping[uuid.UUID, Amount]) -> Order:
    """Price a pending order whose stock is set aside; one that has no total is to be cancelled."""
    currencies = sorted({prices[line.product_id].currency_code for line in order.lines})
    if len(currencies) > 1:
        message = f"The products have prices in {' and '.join(currencies)}: order them apart."
        return cancel(order, Refusal("CURRENCY_MISMATCH", message, {}))
    total_minor = sum(line.quantity * prices[line.product_id].minor for line in order.lines)
    if total_minor > MAX_TOTAL_MINOR:
        message = "The total of the order is too large: order less at a time."
        return cancel(order, Refusal("TOTAL_TOO_LARGE", message, {}))
    lines = tuple(
        replace(line, unit_price_minor=prices[line.product_id].minor) for line in order.lines
    )
    return replace(
        move(order, State.RESERVED),
        lines=lines,
        total=Amount(total_minor, currencies[0]),
    )


def reject(order: Order, refusal: Refusal) -> Order:
    """Refuse a pending order whose stock cannot be set aside."""
    return replace(move(order, State.REJECTED), refusal=refusal)


def cancel(order: Order, refusal: Refusal) -> Order:
    """Begin to take an order back."""
    return replace(move(order, State.CANCELLING), refusal=refusal)


def settle(order: Order, payment: Payment) -> Order:
    """Follow what became of the charge of an order that is PAYING, or of its cancellation.

    Money decides: an order that was charged goes forward, even one that was being taken back. As
    long as the outcome is unknown the order stays as it is.
    """
    match payment.state:
        case PaymentState.UNKNOWN:
            return order
        case PaymentState.SUCCEEDED:
            return replace(move(order, State.PAID), payment_id=payment.payment_id, refusal=None)
        case PaymentState.DECLINED:
            metadata = {"decline_reason": payment.decline_reason}
            return cancel(order, Refusal("PAYMENT_DECLINED", "The payment was declined.", metadata))
        case PaymentState.CANCELLED:
            return cancel(order, _CANCELLED)


def request_cancel(order: Order) -> Order:
    """Begin to take an order back because its user asks; one that is being taken back stays.

    Raises:
        Conflict: it is too late for that, or the order was rejected.
    """
    if order.state in {State.CANCELLING, State.CANCELLED}:
        return order
    if order.state not in CANCELLABLE:
        message = f"The order is {order.state} and can no longer be cancelled."
        raise Conflict("ORDER_NOT_CANCELLABLE", message, metadata=_about(order))
    return replace(cancel(order, _CANCELLED), cancel_requested=True)


def update_status(order: Order, state: State) -> Order:
    """Ship or deliver an order; one that is in that state already stays as it is.

    Raises:
        Conflict: neither that nor the next.
    """
    if state is order.state:
        return order
    if order.state not in {State.CONFIRMED, State.SHIPPED}:
        message = f"The order is {order.state}: only confirmed orders are shipped and delivered."
        raise Conflict("ILLEGAL_STATE_CHANGE", message, metadata=_about(order))
    return move(order, state)


def find_error(order: Order) -> errors.Error | None:
    """Return what to tell the one who placed an order that is not confirmed: always the same."""
    if order.state in ACTIVE:
        return unfinished(order, "ORDER_UNDER_WAY")
    if order.refusal is None:
        return None
    refusal = order.refusal
    error = _REFUSALS.get(refusal.reason, Conflict)
    return error(refusal.reason, refusal.message, metadata={**refusal.metadata, **_about(order)})


def unfinished(order: Order, reason: str) -> errors.Unavailable:
    """Return the error for an order that is taken, and that cannot be finished right now."""
    message = (
        "The order is accepted and not finished yet: send it again with the same idempotency key to"
        " learn its outcome."
    )
    return errors.Unavailable(reason, message, metadata=_about(order))


def failed(order: Order) -> errors.Error:
    """Return the error for an order that is accepted, and that a defect keeps from going on."""
    message = "Something went wrong: the order is accepted, and cannot be finished now."
    return errors.Error("ORDER_FAILED", message, metadata=_about(order))


def order_not_found(order_id: uuid.UUID) -> errors.NotFound:
    """Return the error for an order that does not exist."""
    return errors.NotFound(
        "ORDER_NOT_FOUND", f"There is no order {order_id}.", metadata={"order_id": str(order_id)}
    )


_CANCELLED = Refusal("ORDER_CANCELLED", "The order was cancelled.", {})


def _about(order: Order) -> dict[str, str]:
    return {"order_id": str(order.order_id)}
