"""PaymentIntents and their states: https://docs.stripe.com/payments/paymentintents/lifecycle.

No I/O. A method that changes an intent returns the types of the events that Stripe sends about it
(https://docs.stripe.com/api/events/types).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.fakes.stripe import errors

CANCELLABLE = frozenset(
    {"requires_payment_method", "requires_capture", "requires_confirmation", "requires_action"}
)
"""https://docs.stripe.com/api/payment_intents/cancel; `processing` "in rare cases" only."""
CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
CANCELLATION_REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer", "abandoned"})


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """A test payment method and what its bank does."""

    code: str = ""
    """The code of its decline; empty if it is not declined."""
    decline_code: str = ""
    needs_action: bool = False
    stays_processing: bool = False
    refunds_are_pending: bool = False


PAYMENT_METHODS = {
    "pm_card_visa": PaymentMethod(),
    "pm_card_mastercard": PaymentMethod(),
    "pm_card_chargeDeclined": PaymentMethod("card_declined", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": PaymentMethod("card_declined", "insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": PaymentMethod("expired_card", "expired_card"),
    "pm_card_threeDSecure2Required": PaymentMethod(needs_action=True),
    "pm_card_pendingRefund": PaymentMethod(refunds_are_pending=True),
    "pm_usBankAccount_processing": PaymentMethod(stays_processing=True),
}
"""https://docs.stripe.com/testing and https://docs.stripe.com/payments/ach-direct-debit."""


@dataclass(slots=True)
class Intent:
    """A PaymentIntent, with the one charge of its last attempt."""

    id: str
    number: int
    """Counts the intents from 1; lists are newest first."""
    amount: int
    currency: str
    manual_capture: bool
    allows_redirects: bool
    """Then a return_url is needed to confirm it."""
    metadata: dict[str, str]
    client_secret: str
    payment_method: str | None = None
    return_url: str | None = None
    status: str = "requires_payment_method"
    next_action: dict[str, object] | None = None
    last_payment_error: dict[str, str] | None = None
    charged: bool = False
    """Whether the last attempt made a charge."""
    amount_received: int = 0
    amount_refunded: int = 0
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def charge_id(self) -> str:
        """The id of the charge, if there is one."""
        return self.id.replace("pi_", "ch_", 1)

    def attach(self, payment_method: str | None) -> None:
        """Attach a payment method: an intent that has one requires confirmation."""
        if payment_method is None:
            return
        if payment_method not in PAYMENT_METHODS:
            raise errors.not_found("PaymentMethod", payment_method, "payment_method")
        self.payment_method = payment_method
        self.status = "requires_confirmation"

    def confirm(
        self, payment_method: str | None, return_url: str | None, action_url: str
    ) -> list[str]:
        """Attempt the payment: https://docs.stripe.com/api/payment_intents/confirm.

        Of a decline, `last_payment_error` tells: it is no exception, because its event is sent.
        """
        if self.status not in CONFIRMABLE:
            raise errors.unexpected_state("confirm", self.to_json())
        self.attach(payment_method)
        if self.payment_method is None:
            message = "You cannot confirm this PaymentIntent because it's missing a payment method."
            code = "payment_intent_unexpected_state"
            raise errors.StripeError(message, code=code, payment_intent=self.to_json())
        self.return_url = return_url or self.return_url
        if self.allows_redirects and self.return_url is None:
            message = "This PaymentIntent may redirect your customer: provide a `return_url`."
            raise errors.StripeError(message, param="return_url", payment_intent=self.to_json())
        return self._attempt(PAYMENT_METHODS[self.payment_method], action_url)

    def _attempt(self, method: PaymentMethod, action_url: str) -> list[str]:
        self.last_payment_error = None
        if method.code:
            return self._decline(method.code, method.decline_code)
        if method.needs_action:
            self.status = "requires_action"
            self.next_action = self._make_action(action_url)
            return ["payment_intent.requires_action"]
        if method.stays_processing:
            self.status = "processing"
            return ["payment_intent.processing"]
        return self._authorize()

    def _make_action(self, url: str) -> dict[str, object]:
        """Return `next_action`: a redirect is for those who say where to return to."""
        if self.return_url is None:
            return {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
        redirect = {"url": url, "return_url": self.return_url}
        return {"type": "redirect_to_url", "redirect_to_url": redirect}

    def _decline(self, code: str, decline_code: str) -> list[str]:
        """Take the intent back to `requires_payment_method`, where it can still be paid."""
        self.status = "requires_payment_method"
        self.payment_method = None
        self.next_action = None
        self.last_payment_error = {"code": code, "decline_code": decline_code}
        return ["payment_intent.payment_failed"]

    def _authorize(self) -> list[str]:
        self.charged = True
        self.next_action = None
        if self.manual_capture:
            self.status = "requires_capture"
            return ["payment_intent.amount_capturable_updated"]
        return self._receive(self.amount)

    def _receive(self, amount: int) -> list[str]:
        self.status = "succeeded"
        self.amount_received = amount
        return ["charge.succeeded", "payment_intent.succeeded"]

    def complete_action(self, *, approved: bool) -> list[str]:
        """Complete or fail the customer's action; nothing happens if there is none any more."""
        if self.status != "requires_action":
            return []
        if approved:
            return self._authorize()
        return self._decline("payment_intent_authentication_failure", "authentication_required")

    def capture(self, amount: int | None) -> list[str]:
        """Capture an authorized payment, once: https://docs.stripe.com/api/payment_intents/capture."""
        if self.status != "requires_capture":
            raise errors.unexpected_state("capture", self.to_json())
        if amount is not None and not 0 < amount <= self.amount:
            message = f"You can capture at most {self.amount}."
            raise errors.StripeError(message, code="amount_too_large", param="amount_to_capture")
        return self._receive(amount or self.amount)

    def cancel(self, reason: str | None) -> list[str]:
        """Cancel the intent for good: https://docs.stripe.com/api/payment_intents/cancel."""
        if self.status not in CANCELLABLE:
            raise errors.unexpected_state("cancel", self.to_json())
        self.status = "canceled"
        self.next_action = None
        self.canceled_at = int(time.time())
        self.cancellation_reason = reason
        return ["payment_intent.canceled"]

    def to_json(self, *, expand_charge: bool = False) -> dict[str, object]:
        """Return the object of the API: https://docs.stripe.com/api/payment_intents/object."""
        charge = self.charge_to_json() if expand_charge else self.charge_id
        return {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.amount if self.status == "requires_capture" else 0,
            "amount_received": self.amount_received,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": "manual" if self.manual_capture else "automatic",
            "client_secret": self.client_secret,
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "last_payment_error": self.last_payment_error
            and {"type": "card_error", "message": "The payment failed.", **self.last_payment_error},
            "latest_charge": charge if self.charged else None,
            "livemode": False,
            "metadata": self.metadata,
            "next_action": self.next_action,
            "payment_method": self.payment_method,
            "payment_method_types": ["card"],
            "status": self.status,
        }

    def charge_to_json(self) -> Mapping[str, object]:
        """Return the charge: https://docs.stripe.com/api/charges/object."""
        return {
            "id": self.charge_id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount_received,
            "amount_refunded": self.amount_refunded,
            "captured": self.status == "succeeded",
            "created": self.created,
            "currency": self.currency,
            "livemode": False,
            "metadata": self.metadata,
            "payment_intent": self.id,
            "refunded": self.amount_refunded >= self.amount_received > 0,
            "status": "succeeded",
        }
