"""Refunds: https://docs.stripe.com/api/refunds. No I/O."""

import time
from dataclasses import dataclass, field

from tools.fakes.stripe import errors
from tools.fakes.stripe.intents import PAYMENT_METHODS, Intent

REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})


@dataclass(slots=True)
class Refund:
    """A refund of what an intent received, or of a part of it."""

    id: str
    number: int
    """Counts the refunds from 1; lists are newest first."""
    intent: Intent
    amount: int
    reason: str | None
    metadata: dict[str, str]
    status: str = "succeeded"
    created: int = field(default_factory=lambda: int(time.time()))

    def settle(self, status: str) -> list[str]:
        """Let a pending refund succeed or fail, or one fail that had succeeded.

        https://docs.stripe.com/refunds#failed-refunds
        """
        if self.status == "failed" or self.status == status:
            return []
        self.status = status
        if status == "failed":
            self.intent.amount_refunded -= self.amount
        return ["refund.updated", *(["refund.failed"] if status == "failed" else [])]

    def to_json(self) -> dict[str, object]:
        """Return the object of the API: https://docs.stripe.com/api/refunds/object."""
        return {
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "charge": self.intent.charge_id,
            "created": self.created,
            "currency": self.intent.currency,
            "metadata": self.metadata,
            "payment_intent": self.intent.id,
            "reason": self.reason,
            "status": self.status,
        }


def check_refund(intent: Intent, amount: int | None) -> int:
    """Return the amount to refund, by default all that remains.

    https://docs.stripe.com/api/refunds/create: a charge that is refunded cannot be refunded again,
    nor more than remains of it.
    """
    if intent.status != "succeeded":
        message = f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
        raise errors.StripeError(message, param="payment_intent")
    remaining = intent.amount_received - intent.amount_refunded
    if remaining == 0:
        message = f"Charge {intent.charge_id} has already been refunded."
        raise errors.StripeError(message, code="charge_already_refunded")
    if amount is None:
        return remaining
    if amount <= 0:
        message = "Invalid positive integer"
        raise errors.NotExecutedError(message, code="parameter_invalid_integer", param="amount")
    if amount > remaining:
        message = (
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({remaining})"
        )
        raise errors.StripeError(message, param="amount")
    return amount


def first_status(intent: Intent) -> str:
    """Return the status of a new refund, by the payment method of its intent."""
    method = PAYMENT_METHODS[intent.payment_method or ""]
    return "pending" if method.refunds_are_pending else "succeeded"
