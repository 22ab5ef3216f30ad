"""Stripe's objects and errors, as far as the adapter reads them, and what they mean for a payment.

No I/O. https://docs.stripe.com/api
"""

import json
from typing import Any

import stripe

from chassis.money import MINOR_DIGITS, Amount
from services.payment.domain import Action, ChargeResult, RefundResult, RefundState, State
from services.payment.providers.provider import Notification

STRIPE_DIGITS = {**MINOR_DIGITS, "ISK": 2, "MGA": 0, "UGX": 2}
"""How many digits an amount has: https://docs.stripe.com/currencies differs from ISO 4217 here."""

INTENT_EVENTS = frozenset(
    {
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
    }
)
"""The events of intents that were confirmed or cancelled, and are therefore stored payments."""
REFUND_FAILED_EVENT = "refund.failed"
"""Sent also of a refund that has succeeded before, days later, when its bank sends the money back:
https://docs.stripe.com/refunds#failed-refunds. PayPal documents no such event."""

_STATES = {
    "processing": State.PROCESSING,
    "requires_action": State.REQUIRES_ACTION,
    "requires_capture": State.REQUIRES_CAPTURE,
    "succeeded": State.SUCCEEDED,
}
"""The states of an intent; the other statuses depend on more."""
_REFUND_STATES = {
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}
"""https://docs.stripe.com/api/refunds/object; any other status is PENDING."""


def read_event(body: bytes) -> Notification:
    """Read the body of a webhook whose signature is valid."""
    event = json.loads(body)
    described = event["data"]["object"]
    if event["type"] == REFUND_FAILED_EVENT:
        reference = described["payment_intent"] or ""
        return Notification(event["id"], event["type"], reference, described["id"])
    reference = described["id"] if event["type"] in INTENT_EVENTS else ""
    return Notification(event["id"], event["type"], reference)


def to_result(intent: stripe.PaymentIntent) -> ChargeResult:
    """Return the state of an intent; an unknown or an unconfirmed one is PROCESSING."""
    amount = _from_stripe(intent.amount, intent.currency)
    if intent.status == "canceled":
        if intent.last_payment_error is None:
            return ChargeResult(State.CANCELLED, amount=amount)
        reason = decline_reason(intent.last_payment_error)
        return ChargeResult(State.DECLINED, reason, amount=amount)
    state = _STATES.get(intent.status, State.PROCESSING)
    action = _to_action(intent) if state is State.REQUIRES_ACTION else None
    return ChargeResult(state, action=action, amount=amount)


def _to_action(intent: stripe.PaymentIntent) -> Action:
    redirect = getattr(intent.next_action, "redirect_to_url", None)
    return Action(getattr(redirect, "url", None) or "", intent.client_secret or "")


def decline_reason(error: Any) -> str:
    """Return the reason of an error object, in which each field may be missing."""
    code = getattr(error, "decline_code", None) or getattr(error, "code", None)
    return str(code or "card_declined")


def to_refund_result(refund: stripe.Refund) -> RefundResult:
    """Return the state of a refund; an unknown one is PENDING."""
    return RefundResult(_REFUND_STATES.get(refund.status or "", RefundState.PENDING), refund.id)


def to_stripe(amount: Amount) -> int:
    """Convert an amount to the units of Stripe.

    Raises:
        ValueError: Stripe has no unit that is small enough for it.
    """
    multiplier, divisor = _units(amount.currency_code)
    whole, rest = divmod(amount.minor * multiplier, divisor)
    if rest:
        raise ValueError(amount.currency_code)
    return whole


def _from_stripe(amount: int, currency: str) -> Amount:
    code = currency.upper()
    multiplier, divisor = _units(code)
    return Amount(amount * divisor // multiplier, code)


def _units(currency_code: str) -> tuple[int, int]:
    """Return by what to multiply and to divide minor units, for those of Stripe."""
    shift = STRIPE_DIGITS[currency_code] - MINOR_DIGITS[currency_code]
    return 10 ** max(0, shift), 10 ** max(0, -shift)


def refuses_refund(error: stripe.StripeError) -> bool:
    """Return whether an error says that the charge does not have what is to be refunded."""
    param = getattr(error, "param", None)
    return error.code == "charge_already_refunded" or param in ("amount", "payment_intent")
