"""Refunds of orders, and their rules. No I/O, no clock, no protobuf.

A refund is noted on its order when it begins, and the version of the order changes with it: a
shipment therefore sees every refund, and a refund every shipment.
"""

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from chassis import errors
from chassis.money import Amount
from chassis.violations import Violations
from services.order.domain import Conflict, Line, Order, State, error_metadata

MAX_PENDING = 100
"""The most refunds of an order that may be PENDING at a time."""

RefundKey = tuple[uuid.UUID, int]
"""The order and the number of a refund, by which the other services know it."""

_REFUNDABLE = frozenset({State.CONFIRMED, State.SHIPPED, State.DELIVERED})


class RefundState(StrEnum):
    """The state of a refund; PENDING until it is final."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class NewRefund:
    """A refund that a client requests; without an amount, it is of all that remains."""

    idempotency_key: str
    amount: Amount | None
    restock: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund that was accepted. `number` counts those of the order from 1."""

    order_id: uuid.UUID
    number: int
    idempotency_key: str
    request_hash: bytes
    amount: Amount
    restock: tuple[Line, ...]
    state: RefundState
    create_time: dt.datetime
    update_time: dt.datetime

    @property
    def key(self) -> RefundKey:
        """The order and the number."""
        return self.order_id, self.number


def check_new_refund(new: NewRefund) -> None:
    """Check what the proto does not state of a refund that a client requests.

    Raises:
        errors.Unprocessable: with a violation per invalid field.
    """
    violations = Violations()
    violations.check(new.amount is None or new.amount.minor > 0, "amount", "must be positive")
    distinct = len({line.product_id for line in new.restock}) == len(new.restock)
    violations.check(distinct, "restock", "must not repeat a product")
    violations.raise_any()


def hash_request(new: NewRefund) -> bytes:
    """Return 32 bytes that distinguish a repeated request from another one with the same key."""
    amount = f"{new.amount.minor} {new.amount.currency_code}" if new.amount else "all"
    lines = sorted(f"{line.product_id} {line.quantity}" for line in new.restock)
    return hashlib.sha256("\n".join([amount, *lines]).encode()).digest()


def check_same_request(refund: Refund, repeated: NewRefund) -> None:
    """Check that a request with the key of a refund is the one that the refund was made for.

    Raises:
        errors.KeyReused: it is another one.
    """
    if refund.request_hash != hash_request(repeated):
        message = "The idempotency key was used for another refund of the order."
        raise errors.KeyReused("IDEMPOTENCY_KEY_REUSED", message, metadata=_metadata(refund))


def begin(order: Order, new: NewRefund, restocked: Mapping[uuid.UUID, int]) -> tuple[Order, Amount]:
    """Note a new refund on its order; return the changed order, and the amount of the refund.

    `restocked` are the units by product id of earlier refunds that are PENDING or SUCCEEDED.

    Raises:
        Conflict: the order is not confirmed, or does not have what is to be refunded or restocked.
        errors.Unprocessable: the amount is in another currency.
    """
    amount = _find_amount(order, new.amount)
    _check_restock(order, new.restock, restocked)
    changed = replace(
        order,
        version=order.version + 1,
        refunded_minor=order.refunded_minor + amount.minor,
        pending_refunds=order.pending_refunds + 1,
    )
    return changed, amount


def settle(order: Order, refund: Refund, state: RefundState) -> tuple[Order, Refund]:
    """Apply the final state of a pending refund; the order gets back what a failed one noted."""
    failed_minor = refund.amount.minor if state is RefundState.FAILED else 0
    changed = replace(
        order,
        version=order.version + 1,
        refunded_minor=order.refunded_minor - failed_minor,
        pending_refunds=order.pending_refunds - 1,
    )
    return changed, replace(refund, state=state)


def find_error(refund: Refund) -> errors.Error | None:
    """Return the error for the client of a refund that failed, for every repetition."""
    if refund.state is not RefundState.FAILED:
        return None
    message = "The payment provider rejected the refund."
    return Conflict("REFUND_FAILED", message, metadata=_metadata(refund))


def _find_amount(order: Order, requested: Amount | None) -> Amount:
    metadata = error_metadata(order)
    if order.state not in _REFUNDABLE or order.total is None:
        message = f"The order is {order.state} and cannot be refunded."
        raise Conflict("ORDER_NOT_REFUNDABLE", message, metadata=metadata)
    if order.pending_refunds >= MAX_PENDING:
        message = "Too many refunds of the order are pending: repeat the request later."
        raise Conflict("TOO_MANY_PENDING_REFUNDS", message, metadata=metadata)
    currency_code = order.total.currency_code
    if requested is not None and requested.currency_code != currency_code:
        violation = errors.Violation("amount.currency_code", "must be the currency of the order")
        raise errors.Unprocessable("INVALID_FIELD", violations=[violation], metadata=metadata)
    remaining_minor = order.total.minor - order.refunded_minor
    amount = requested or Amount(remaining_minor, currency_code)
    if amount.minor > remaining_minor or amount.minor == 0:
        message = f"Only {remaining_minor} minor units of the order remain to be refunded."
        raise Conflict("REFUND_EXCEEDS_TOTAL", message, metadata=metadata)
    return amount


def _check_restock(
    order: Order, restock: Iterable[Line], restocked: Mapping[uuid.UUID, int]
) -> None:
    ordered = {line.product_id: line.quantity for line in order.lines}
    for line in restock:
        left = ordered.get(line.product_id, 0) - restocked.get(line.product_id, 0)
        if line.quantity > left:
            message = f"Only {left} units of a product can be put back into stock."
            metadata = {**error_metadata(order), "product_id": str(line.product_id)}
            raise Conflict("RESTOCK_EXCEEDS_ORDER", message, metadata=metadata)


def _metadata(refund: Refund) -> dict[str, str]:
    return {"order_id": str(refund.order_id), "number": str(refund.number)}
