"""The interface of payment providers. Each provider is a module beside this one.

Every method takes a batch and returns one result per item, in order. Every method is idempotent:
for the same key or the same intent it does nothing a second time and returns the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult


@dataclass(frozen=True, slots=True)
class IntentRequest:
    """An intent to create. `key` is its idempotency key."""

    key: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An intent to charge, and the provider's token of the payment method."""

    reference: str
    payment_method: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """An amount of a charged intent to refund. `key` is its idempotency key."""

    key: str
    reference: str
    amount: Amount


class Provider(Protocol):
    """A payment provider: the authority on whether money moved.

    An intent is unconfirmed until it is confirmed or cancelled. Its result is final, also when it
    was declined: confirming a cancelled intent does not charge it, and cancelling a charged one
    does not refund it. No method is called within a database transaction.

    Every method raises errors.Unavailable if the provider does not respond; whether it processed
    the request is unknown then.
    """

    @property
    def name(self) -> str:
        """The name that payments are stored with."""

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[str]:
        """Create unconfirmed intents, which charge nothing; return their references."""

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Charge those intents that are unconfirmed."""

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Cancel those intents that are unconfirmed."""

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund charged intents; FAILED if less than the amount remains of the intent."""
