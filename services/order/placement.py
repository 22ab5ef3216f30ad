"""Rules for placing an order, and for repeating the request.

The state transitions of the order are in `domain`.
"""

import hashlib
import uuid
from collections.abc import Sequence

from chassis import errors
from chassis.card_number import is_card_number
from chassis.violations import Violations
from services.order.domain import Line, NewOrder, Order


def check_new_order(order: NewOrder) -> None:
    """Check what the proto does not state of an order that a client places.

    Raises:
        errors.Unprocessable: with a violation per invalid field; it contains no payment method.
    """
    violations = Violations()
    violations.check(
        not is_card_number(order.payment_method),
        "payment_method",
        "must be a token of the payment provider and not a card number",
    )
    _check_lines(violations, order.lines)
    violations.raise_any()


def hash_request(order: NewOrder) -> bytes:
    """Return 32 bytes that distinguish a repeated request from another one with the same key."""
    lines = (f"{line.product_id} {line.quantity}" for line in order.lines)
    text = "\n".join([str(len(order.lines)), *lines, order.payment_method])
    return hashlib.sha256(text.encode()).digest()


def is_same_request(order: Order, repeated: NewOrder) -> bool:
    """Return whether a request with the key of an order is the one that the order was made for."""
    return order.request_hash == hash_request(repeated)


def key_reused(order: Order) -> errors.KeyReused:
    """Return the error for another request with the key of an order."""
    message = "The idempotency key was used for another order."
    return errors.KeyReused(
        "IDEMPOTENCY_KEY_REUSED", message, metadata={"order_id": str(order.order_id)}
    )


def _check_lines(violations: Violations, lines: Sequence[Line]) -> None:
    seen: set[uuid.UUID] = set()
    for index, line in enumerate(lines):
        violations.check(
            line.product_id not in seen, f"lines[{index}].product_id", "must not be repeated"
        )
        seen.add(line.product_id)
