"""The interface of payment providers. Each provider is a module beside this one.

Every method of a `Provider` takes a batch and returns one result per item, in order. Every method
is idempotent: for the same key or the same intent it does nothing a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chassis.money import Amount
from services.payment.domain import ChargeResult, RefundResult


@dataclass(frozen=True, slots=True)
class IntentRequest:
    """An intent to create. `key` is its idempotency key."""

    key: str
    order_id: str
    amount: Amount
    manual_capture: bool = False


@dataclass(frozen=True, slots=True)
class Intent:
    """An unconfirmed intent; without a reference if the provider refused it for good."""

    reference: str
    decline_reason: str = ""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An intent to charge, and the provider's token of the payment method."""

    reference: str
    payment_method: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """An intent, and the reference of the hold to capture: the intent itself at some providers."""

    reference: str
    hold: str


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """An amount of a charged intent to refund.

    `number` counts the refunds of the order from 1, and `key` is the idempotency key.
    """

    key: str
    reference: str
    number: int
    amount: Amount


@dataclass(frozen=True, slots=True)
class Notification:
    """A webhook whose signature is valid; `reference` is the intent, or empty for other events.

    `failed_refund` is the provider's reference of a refund that has failed, or empty. One that had
    succeeded before is one of which the customer has no money.
    """

    event_id: str
    type: str
    reference: str
    failed_refund: str = ""


class Provider(Protocol):
    """A payment provider: the authority on whether money moved.

    An intent is unconfirmed until it is confirmed or cancelled. It may ask for an action of the
    customer and, with manual capture, waits to be captured. Once it is SUCCEEDED, DECLINED or
    CANCELLED it stays so: confirming a cancelled intent does not charge it, and cancelling a
    charged one does not refund it. No method is called within a database transaction.

    A result is PROCESSING, or as said below, if the provider did not respond: whether it processed
    the request is unknown then. A method raises errors.Unavailable if that is so for all items.
    """

    @property
    def name(self) -> str:
        """The name that payments are stored with."""

    @property
    def cancellation_is_final(self) -> bool:
        """Whether no late call can hold the money of an intent that was cancelled."""

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        """Create unconfirmed intents, which charge nothing; None if it is not known."""

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        """Charge those intents that are unconfirmed.

        An intent is DECLINED only after it was cancelled, because some providers would let the
        customer pay for it later.
        """

    async def find(self, references: Sequence[str]) -> list[ChargeResult]:
        """Read intents."""

    async def authorize(self, references: Sequence[str]) -> list[str]:
        """Hold the money of approved intents; return references of the holds, or "" for none.

        An intent that can no longer be held has none either: it stays unsettled, and the order
        service cancels it when the time for the customer's action is over.
        """

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        """Charge intents that are approved."""

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        """Cancel those intents that are not charged, and release all that is held for them."""

    async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
        """Refund charged intents; FAILED if less than the amount remains of the intent.

        A refund is looked for by its number before it is made, because keys expire.
        """

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Verify a webhook and parse it; the names of the headers are in lower case.

        Raises:
            errors.InvalidArgument: the signature is missing, invalid or too old.
            errors.Unavailable: the provider, which verifies it, did not respond.
        """

    async def close(self) -> None:
        """Close the connections to the provider."""
