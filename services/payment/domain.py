"""Payments and their state transitions. No I/O, no clock, no protobuf.

Refunds and their rules are in `refund`.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chassis import errors
from chassis.card_number import is_card_number
from chassis.money import Amount
from chassis.violations import Violations


class State(StrEnum):
    """The state of a payment, which refunds do not change.

    PROCESSING -> SUCCEEDED | DECLINED | CANCELLED. The two states that wait for somebody are known
    to the provider only: such a payment is stored as PROCESSING.
    """

    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    """The customer has to approve the payment."""
    REQUIRES_CAPTURE = "REQUIRES_CAPTURE"
    """It is approved, and will not be charged before it is captured."""
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    CANCELLED = "CANCELLED"


UNSETTLED = frozenset({State.PROCESSING, State.REQUIRES_ACTION, State.REQUIRES_CAPTURE})
"""The states in which it is open whether the customer will be charged."""
_NOT_CHARGED = frozenset({State.CANCELLED, State.DECLINED})


class RefundState(StrEnum):
    """The state of a refund: PENDING until the provider returns SUCCEEDED or FAILED."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class TransactionType(StrEnum):
    """The direction of a transaction: CHARGE to the shop, REFUND to the customer."""

    CHARGE = "CHARGE"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount to charge for one order: at once, or with `manual_capture` when it is captured."""

    order_id: uuid.UUID
    amount: Amount
    payment_method: str = field(repr=False)
    manual_capture: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """How the customer approves a payment: at a URL, or with the provider's own code by a secret.

    Either may be empty.
    """

    redirect_url: str = ""
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A payment to insert; a tombstone has no amount."""

    order_id: uuid.UUID
    state: State
    amount: Amount | None
    provider: str = ""
    provider_reference: str = ""
    decline_reason: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """The only payment of an order. `version` counts the changes.

    `authorization_reference` is the provider's reference of the hold that is captured, if that has
    one of its own. The `action` is never stored.
    """

    payment_id: uuid.UUID
    order_id: uuid.UUID
    state: State
    amount: Amount | None
    provider: str
    provider_reference: str
    decline_reason: str
    refunded_minor: int
    version: int
    create_time: dt.datetime
    update_time: dt.datetime
    authorization_reference: str = ""
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A cancelled payment whose intent is to be cancelled again, claimed until `lease_end`."""

    payment_id: uuid.UUID
    reference: str
    cancel_time: dt.datetime
    lease_end: dt.datetime


@dataclass(frozen=True, slots=True)
class ChargeResult:
    """The state of an intent at the provider: PROCESSING if it is unconfirmed or not known.

    `amount` is what the intent is for, if the provider has said so.
    """

    state: State
    decline_reason: str = ""
    action: Action | None = None
    amount: Amount | None = None


@dataclass(frozen=True, slots=True)
class RefundResult:
    """The state of a refund at the provider, and the reference of one that succeeded."""

    state: RefundState
    reference: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An entry of the ledger, before it is inserted."""

    payment_id: uuid.UUID
    order_id: uuid.UUID
    type: TransactionType
    amount: Amount
    provider_reference: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """An entry of the ledger."""

    transaction_id: uuid.UUID
    entry: LedgerEntry
    create_time: dt.datetime


def check_charges(charges: Sequence[Charge]) -> None:
    """Check what the proto does not state of a batch of charges.

    Raises:
        errors.Unprocessable: with a violation per invalid field; it contains no payment method.
    """
    violations = Violations()
    seen: set[uuid.UUID] = set()
    for index, charge in enumerate(charges):
        field = f"charges[{index}]"
        violations.check(charge.order_id not in seen, f"{field}.order_id", "must not be repeated")
        seen.add(charge.order_id)
        violations.check(
            not is_card_number(charge.payment_method),
            f"{field}.payment_method",
            "must be a token of the payment provider and not a card number",
        )
    violations.raise_any()


def begin_payment(charge: Charge, provider: str, reference: str) -> NewPayment:
    """Return the payment to insert for a charge, with its unconfirmed intent at the provider."""
    return NewPayment(charge.order_id, State.PROCESSING, charge.amount, provider, reference)


def decline(charge: Charge, provider: str, reason: str) -> NewPayment:
    """Return the payment to insert for a charge for which there can be no intent."""
    return NewPayment(charge.order_id, State.DECLINED, charge.amount, provider, "", reason)


def make_free_payment(charge: Charge) -> NewPayment:
    """Return the payment to insert for a charge of 0, which succeeds without a provider."""
    return NewPayment(charge.order_id, State.SUCCEEDED, charge.amount)


def make_tombstone(order_id: uuid.UUID) -> NewPayment:
    """Return a cancelled payment, which prevents every later charge for the order."""
    return NewPayment(order_id, State.CANCELLED, None)


def check_same_amount(payment: Payment, charge: Charge) -> None:
    """Check that a charge has the amount of the payment; a tombstone matches any.

    Raises:
        errors.KeyReused: the amounts differ.
    """
    if payment.amount not in (None, charge.amount):
        message = f"The payment of order {charge.order_id} is for another amount."
        raise errors.KeyReused(
            "ORDER_AMOUNT_CHANGED", message, metadata={"order_id": str(charge.order_id)}
        )


def is_for_another_amount(payment: Payment, result: ChargeResult) -> bool:
    """Return whether the provider has charged, or would charge, another amount than was asked."""
    return result.amount is not None and result.amount != payment.amount


def settle(payment: Payment, result: ChargeResult) -> Payment:
    """Apply the provider's result, unless the payment is final already.

    The provider is believed if it has charged a payment that it declined before: the order service
    cancels such a payment, and confirms its order if that returns it as SUCCEEDED.
    """
    paid = payment.state is State.DECLINED and result.state is State.SUCCEEDED
    if result.state in UNSETTLED or not (payment.state is State.PROCESSING or paid):
        return payment
    return replace(payment, state=result.state, decline_reason=result.decline_reason)


def find_contradiction(payment: Payment, result: ChargeResult) -> str:
    """Return why the staff has to look at a result that nobody waits for, or an empty string.

    The order of a payment that was cancelled or declined may be final, and is never confirmed then.
    """
    if is_for_another_amount(payment, result):
        return "amount_mismatch"
    if payment.state in _NOT_CHARGED and result.state is State.SUCCEEDED:
        return f"{payment.state.lower()}_and_charged"
    return ""


def is_cancellable(payment: Payment) -> bool:
    """Return whether the provider has an intent of the payment that may not be settled yet.

    At some providers a customer can still pay what was declined.
    """
    return payment.state is State.PROCESSING or (
        payment.state is State.DECLINED and payment.provider_reference != ""
    )


def hold(payment: Payment, authorization: str) -> Payment:
    """Store the hold to capture, unless the payment has one or is settled."""
    if payment.state is not State.PROCESSING or payment.authorization_reference:
        return payment
    return replace(payment, authorization_reference=authorization)


def settle_cancelled(payment: Payment, before: Payment, result: ChargeResult) -> Payment:
    """Apply the result of a cancellation that began with the payment as it was `before`.

    A hold that was stored meanwhile may be captured: the cancellation has to be repeated.
    """
    stored = payment.authorization_reference != before.authorization_reference
    return payment if stored else settle(payment, result)


def present(payment: Payment, result: ChargeResult | None) -> Payment:
    """Return a payment with what the provider waits for, if it is unsettled."""
    if payment.state is not State.PROCESSING or result is None or result.state not in UNSETTLED:
        return payment
    return replace(payment, state=result.state, action=result.action)


def charge_entries(payments: Sequence[Payment]) -> list[LedgerEntry]:
    """Return the ledger entries of those payments that succeeded."""
    return [
        LedgerEntry(
            payment.payment_id,
            payment.order_id,
            TransactionType.CHARGE,
            payment.amount,
            payment.provider_reference,
        )
        for payment in payments
        if payment.state is State.SUCCEEDED and payment.amount is not None
    ]
