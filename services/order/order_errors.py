"""The errors for the clients of orders that are not confirmed: refused, waiting or failed.

What the staff see of an order that waits or failed is its `Failure`.
"""

from collections.abc import Mapping

from chassis import errors
from services.order.domain import ACTIVE, Conflict, Order, State, error_metadata
from services.order.failure import Failure


class PaymentDeclined(errors.FailedPrecondition):
    """The payment provider declined the charge."""

    http_status = 402


class OrderUnfinished(errors.Unavailable):
    """The `order` is accepted and has to wait; the worker will finish it."""

    def __init__(self, order: Order, reason: str, failure: Failure) -> None:
        message = (
            "The order is accepted but not finished yet: get it later, or send it again with the"
            " same idempotency key."
        )
        super().__init__(reason, message, metadata=error_metadata(order))
        self.order = order
        self.failure = failure


class OrderFailed(errors.Error):
    """The `order` is accepted, and its next step failed by a defect."""

    def __init__(self, order: Order, failure: Failure) -> None:
        message = "An internal error occurred: the order is accepted but cannot be finished now."
        super().__init__("ORDER_FAILED", message, metadata=error_metadata(order))
        self.order = order
        self.failure = failure


_REFUSALS: Mapping[str, type[errors.Error]] = {
    "PRODUCT_NOT_FOUND": errors.NotFound,
    "CURRENCY_MISMATCH": errors.Unprocessable,
    "TOTAL_TOO_LARGE": errors.Unprocessable,
    "PAYMENT_DECLINED": PaymentDeclined,
    "PAYMENT_NOT_APPROVED": PaymentDeclined,
}
"""The errors of refusals by reason; for any other one, such as OUT_OF_STOCK, it is `Conflict`."""

_UNKNOWN: Mapping[State, Failure] = {
    State.PENDING: Failure("RESERVATION_UNKNOWN"),
    State.PAYING: Failure("PAYMENT_UNKNOWN"),
    State.CANCELLING: Failure("PAYMENT_UNKNOWN"),
}
"""What is not known of an order whose step changed nothing, by its state."""


def find_error(order: Order) -> errors.Error | None:
    """Return the error for the client of an order that is not confirmed, for every repetition."""
    if order.state in ACTIVE:
        return not_finished(order)
    if order.refusal is None:
        return None
    refusal = order.refusal
    error = _REFUSALS.get(refusal.reason, Conflict)
    return error(
        refusal.reason, refusal.message, metadata={**refusal.metadata, **error_metadata(order)}
    )


def not_finished(order: Order) -> OrderUnfinished:
    """Return the error for the client of an order that has to wait, with what it waits for."""
    if order.action is not None:
        reason = "PAYMENT_ACTION_REQUIRED"
        return OrderUnfinished(order, reason, Failure(reason))
    return OrderUnfinished(order, "ORDER_UNDER_WAY", _UNKNOWN[order.state])


def fail(order: Order, failure: Failure) -> OrderUnfinished | OrderFailed:
    """Return the error for the client of an order that could not go on."""
    if failure.is_defect:
        return OrderFailed(order, failure)
    return OrderUnfinished(order, "ORDER_UNDER_WAY", failure)
