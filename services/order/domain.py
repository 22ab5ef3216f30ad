"""Orders and their state transitions. No I/O, no clock, no protobuf.

The rules for what a client may order are in `placement`, those of refunds in `refund`, and the
errors for clients in `order_errors`. What is recorded of every change is in `event`.
"""

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chassis import errors
from chassis.money import Amount

MAX_TOTAL_MINOR = 10**12
"""The largest total: valid as Money in any currency, and far below the limit of 64 bits."""

OrderKey = tuple[uuid.UUID, str]
"""The user and the idempotency key, by which a repeated request finds its order."""


class State(StrEnum):
    """The state of an order; `TRANSITIONS` has the allowed changes."""

    PENDING = "PENDING"
    PAYING = "PAYING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.PAYING, State.REJECTED, State.CANCELLING}),
    State.PAYING: frozenset({State.CONFIRMED, State.CANCELLING}),
    # If a charge succeeded before it was cancelled, the order goes forward.
    State.CANCELLING: frozenset({State.CANCELLED, State.CONFIRMED}),
    State.CONFIRMED: frozenset({State.SHIPPED}),
    State.SHIPPED: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
    State.REJECTED: frozenset(),
    State.CANCELLED: frozenset(),
}
ACTIVE = frozenset({State.PENDING, State.PAYING, State.CANCELLING})
"""The states from which checkout has a next step to take."""
CANCELLABLE = frozenset({State.PENDING, State.PAYING})
FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
"""The states that an order never leaves."""


class PaymentState(StrEnum):
    """The state of a payment; UNKNOWN as long as only the provider can tell."""

    UNKNOWN = "UNKNOWN"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    """The customer has to approve it."""
    REQUIRES_CAPTURE = "REQUIRES_CAPTURE"
    """It is approved, and is charged by its capture, which needs pinned stock."""
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    CANCELLED = "CANCELLED"


class Conflict(errors.FailedPrecondition):
    """The state of the order or of the stock does not allow the request."""

    http_status = 409


@dataclass(frozen=True, slots=True)
class Line:
    """A product and its quantity; the price is set when the stock is reserved."""

    product_id: uuid.UUID
    quantity: int
    unit_price_minor: int | None = None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order that a client places."""

    user_id: uuid.UUID
    idempotency_key: str
    payment_method: str = field(repr=False)
    lines: tuple[Line, ...]
    manual_capture: bool = False
    """Whether the payment is approved first, and charged when the stock is pinned."""

    @property
    def key(self) -> OrderKey:
        """The user and the idempotency key."""
        return self.user_id, self.idempotency_key


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order was not served: all that the error for its client consists of."""

    reason: str
    message: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PaymentAction:
    """How the customer approves the payment of an order: by a URL, a secret or both.

    The time until which that is possible is set when the order is saved.
    """

    redirect_url: str
    client_secret: str = field(repr=False)
    expire_time: dt.datetime | None = field(default=None, compare=False)
    is_expired: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Order:
    """An order that the shop has accepted. `version` counts the changes, each of which is an event.

    `refunded_minor` is the sum of its refunds that are PENDING or SUCCEEDED, and `pending_refunds`
    the number of those that are PENDING.
    """

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
    manual_capture: bool = False
    action: PaymentAction | None = None
    refunded_minor: int = 0
    pending_refunds: int = 0

    @property
    def key(self) -> OrderKey:
        """The user and the idempotency key."""
        return self.user_id, self.idempotency_key


@dataclass(frozen=True, slots=True)
class Payment:
    """The payment of an order.

    `decline_reason` is empty unless it is DECLINED; it has an `action` if it REQUIRES_ACTION.
    """

    payment_id: uuid.UUID
    state: PaymentState
    decline_reason: str
    action: PaymentAction | None = None


def transition(order: Order, state: State, **changes: Any) -> Order:
    """Return the order in another state, with changes of other fields.

    Raises:
        Conflict: the transition is not allowed.
    """
    if state not in TRANSITIONS[order.state]:
        message = f"An order that is {order.state} cannot become {state}."
        raise Conflict("ILLEGAL_STATE_CHANGE", message, metadata=error_metadata(order))
    return replace(order, state=state, action=None, **changes)


def reserve(order: Order, prices: Mapping[uuid.UUID, Amount]) -> Order:
    """Price a pending order, which can then be charged; cancel it if there is no valid total."""
    priced = [(line, prices[line.product_id]) for line in order.lines]
    currencies = sorted({price.currency_code for _, price in priced})
    if len(currencies) > 1:
        message = f"The products have prices in {' and '.join(currencies)}: order them separately."
        return cancel(order, Refusal("CURRENCY_MISMATCH", message, {}))
    total_minor = sum(line.quantity * price.minor for line, price in priced)
    if total_minor > MAX_TOTAL_MINOR:
        message = "The total of the order is too large: order less at a time."
        return cancel(order, Refusal("TOTAL_TOO_LARGE", message, {}))
    lines = tuple(Line(line.product_id, line.quantity, price.minor) for line, price in priced)
    total = Amount(total_minor, currencies[0])
    return transition(order, State.PAYING, lines=lines, total=total)


def reject(order: Order, refusal: Refusal) -> Order:
    """Reject a pending order, whose stock could not be reserved."""
    return transition(order, State.REJECTED, refusal=refusal)


def cancel(order: Order, refusal: Refusal) -> Order:
    """Begin to compensate for the steps that an order has taken."""
    return transition(order, State.CANCELLING, refusal=refusal)


def needs_pin_to_charge(order: Order) -> bool:
    """Return whether the stock has to be pinned first, as there will be no capture to wait for."""
    return order.manual_capture and order.total is not None and order.total.minor == 0


def expire(order: Order) -> Order:
    """Begin to compensate for an order whose reservation expired before it could be pinned."""
    message = "The stock was no longer reserved when the payment was approved."
    return cancel(order, Refusal("RESERVATION_EXPIRED", message, {}))


def settle(order: Order, payment: Payment) -> Order:
    """Apply the result of the charge of an order, or of the cancellation of its payment.

    Money decides: an order that was charged is confirmed, even one that is CANCELLING; its stock
    must be committed before. An order stays as it is if there is nothing new about its payment,
    unless its customer had to act and the time for that is over.
    """
    match payment.state:
        case PaymentState.REQUIRES_CAPTURE:
            return order
        case PaymentState.UNKNOWN:
            # Its cancellation asks the provider again, and finds a payment that was charged.
            return _end_action(order) if _is_too_late(order) else order
        case PaymentState.REQUIRES_ACTION:
            return _wait_for_action(order, payment.action)
        case PaymentState.SUCCEEDED:
            return transition(order, State.CONFIRMED, payment_id=payment.payment_id, refusal=None)
        case PaymentState.DECLINED:
            metadata = {"decline_reason": payment.decline_reason}
            return cancel(order, Refusal("PAYMENT_DECLINED", "The payment was declined.", metadata))
        case PaymentState.CANCELLED:
            return cancel(order, _CANCELLED)


def request_cancel(order: Order) -> Order:
    """Begin to cancel an order for its user; one that is cancelled or CANCELLING stays as it is.

    Raises:
        Conflict: the order was charged or rejected.
    """
    if order.state in {State.CANCELLING, State.CANCELLED}:
        return order
    if order.state not in CANCELLABLE:
        message = f"The order is {order.state} and can no longer be cancelled."
        raise Conflict("ORDER_NOT_CANCELLABLE", message, metadata=error_metadata(order))
    return cancel(order, _CANCELLED)


def update_status(order: Order, state: State) -> Order:
    """Change an order to SHIPPED or DELIVERED; one that is in that state already stays as it is.

    Raises:
        Conflict: the state is not the next one of the order, or the order is to be shipped and its
            whole total is refunded or being refunded.
    """
    if state is order.state:
        return order
    if state is State.SHIPPED and order.total and order.refunded_minor == order.total.minor > 0:
        message = "The whole order is refunded, or being refunded, and cannot be shipped."
        raise Conflict("ORDER_REFUNDED", message, metadata=error_metadata(order))
    return transition(order, state)


def _wait_for_action(order: Order, action: PaymentAction | None) -> Order:
    if _is_too_late(order):
        return _end_action(order)
    # The time begins with the first action, also if the provider does not show one, or no longer.
    action = action or order.action or PaymentAction("", "")
    return order if order.action == action else replace(order, action=action)


def _is_too_late(order: Order) -> bool:
    return order.action is not None and order.action.is_expired


def _end_action(order: Order) -> Order:
    message = "The payment was not approved in time."
    return cancel(order, Refusal("PAYMENT_NOT_APPROVED", message, {}))


_CANCELLED = Refusal("ORDER_CANCELLED", "The order was cancelled.", {})


def error_metadata(order: Order) -> dict[str, str]:
    """Return what every error about an order says of it."""
    return {"order_id": str(order.order_id)}
