"""What this service needs of a payment provider. Each provider is a module beside this one.

Every method takes a batch and answers in its order. Each one is safe to repeat: with the same key
or for the same intent it does nothing a second time and gives the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.money import Amount
from services.payment.domain import Outcome, RefundOutcome


@dataclass(frozen=True, slots=True)
class IntentRequest:
    """An intent to create under an idempotency key."""

    key: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An intent to charge, and the provider's token of what to charge."""

    reference: str
    payment_method: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A part of a charged intent to give back, under an idempotency key."""

    key: str
    reference: str
    amount: Amount


class Provider(Protocol):
    """A payment provider. It alone knows whether money moved.

    An intent is unconfirmed until it is confirmed or cancelled, and its outcome then stays, also
    where it was declined: confirming a cancelled one does not charge, cancelling a charged one does
    not undo it. No method is called within a transaction of this service.

    Every method raises errors.Unavailable where the provider does not answer; whether it did what
    was asked is unknown then.
    """

    @property
    def name(self) -> str:
        """What payments are marked with."""

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[str]:
        """Create intents that charge nothing yet; return their references."""

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[Outcome]:
        """Charge intents; say what became of each."""

    async def cancel(self, references: Sequence[str]) -> list[Outcome]:
        """Cancel those intents that are unconfirmed; say what became of each."""

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundOutcome]:
        """Give money back; FAILED where less than that is left of the intent."""

    async def get(self, references: Sequence[str]) -> list[Outcome]:
        """Say what became of intents; PROCESSING where they are unconfirmed."""
