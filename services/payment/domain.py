"""What a payment is, what may follow what, and refunds. No I/O, no clock, no wire format."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chassis import errors
from chassis.card_number import is_card_number
from chassis.money import Amount

MAX_TEXT = 255
"""The longest payment method token and idempotency key, in characters."""


class State(StrEnum):
    """Where a payment stands.

    NEW -> PROCESSING -> SUCCEEDED | DECLINED | CANCELLED, and NEW -> CANCELLED. Refunds do not
    change it.
    """

    NEW = "NEW"
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    DECLINED = "DECLINED"
    CANCELLED = "CANCELLED"


class RefundState(StrEnum):
    """Where a refund stands: PENDING until the provider says SUCCEEDED or FAILED."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class TransactionType(StrEnum):
    """Which way money went: CHARGE to the shop, REFUND back to the buyer."""

    CHARGE = "CHARGE"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be charged for one order."""

    order_id: uuid.UUID
    amount: Amount
    payment_method: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A payment as it is first written; a tombstone has no amount."""

    order_id: uuid.UUID
    state: State
    amount: Amount | None
    provider: str


@dataclass(frozen=True, slots=True)
class Payment:
    """The one charge for an order. `version` counts the changes."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the provider says of an intent; PROCESSING where it does not know either."""

    state: State
    decline_reason: str = ""


@dataclass(frozen=True, slots=True)
class Refund:
    """The `number`-th giving back of a part of a payment, counted from 1."""

    payment_id: uuid.UUID
    number: int
    idempotency_key: str | None
    amount: Amount
    state: RefundState
    provider_reference: str


@dataclass(frozen=True, slots=True)
class RefundOutcome:
    """What the provider says of a refund."""

    state: RefundState
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written to the ledger."""

    payment_id: uuid.UUID
    order_id: uuid.UUID
    type: TransactionType
    amount: Amount
    provider_reference: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """An entry of the ledger as it stands there."""

    transaction_id: uuid.UUID
    entry: Entry
    create_time: dt.datetime


def check_charges(charges: Sequence[Charge]) -> None:
    """Check the rules of a batch of charges.

    Raises:
        errors.Unprocessable: naming each field that breaks its rule, and no payment method.
    """
    violations = errors.Violations()
    violations.check(bool(charges), "charges", "must not be empty")
    seen: set[uuid.UUID] = set()
    for index, charge in enumerate(charges):
        field = f"charges[{index}]"
        violations.check(
            charge.order_id not in seen, f"{field}.order_id", "must not be there twice"
        )
        seen.add(charge.order_id)
        violations.check_opaque(charge.payment_method, f"{field}.payment_method", 1, MAX_TEXT)
        violations.check(
            not is_card_number(charge.payment_method),
            f"{field}.payment_method",
            "must be a token of the payment provider and not a card number",
        )
    violations.raise_any()


def payment_not_found(payment_id: uuid.UUID) -> errors.NotFound:
    """Return the error that says that there is no such payment."""
    return errors.NotFound(
        "PAYMENT_NOT_FOUND",
        f"There is no payment {payment_id}.",
        metadata={"payment_id": str(payment_id)},
    )


def begin_payment(charge: Charge, provider: str) -> Draft:
    """Return the payment that a charge begins with; one over 0 is done, without a provider."""
    if charge.amount.minor == 0:
        return Draft(charge.order_id, State.SUCCEEDED, charge.amount, "")
    return Draft(charge.order_id, State.NEW, charge.amount, provider)


def make_tombstone(order_id: uuid.UUID) -> Draft:
    """Return the cancelled payment that keeps an order from ever being charged."""
    return Draft(order_id, State.CANCELLED, None, "")


def check_same_amount(payment: Payment, charge: Charge) -> None:
    """Check that a charge is the one that an order's payment is for; a tombstone is for any.

    Raises:
        errors.KeyReused: it is another amount, and an order is charged once.
    """
    if payment.amount not in (None, charge.amount):
        message = f"The payment of order {charge.order_id} is for another amount."
        raise errors.KeyReused(
            "ORDER_AMOUNT_CHANGED", message, metadata={"order_id": str(charge.order_id)}
        )


def attach_intent(payment: Payment, reference: str) -> Payment:
    """Note which intent is to be confirmed. The first one stays, whatever came in between."""
    if payment.state is not State.NEW:
        return payment
    return replace(payment, state=State.PROCESSING, provider_reference=reference)


def cancel_unattached(payment: Payment) -> Payment:
    """Cancel a payment that has no intent yet: only attached ones are ever confirmed."""
    if payment.state is not State.NEW:
        return payment
    return replace(payment, state=State.CANCELLED)


def settle(payment: Payment, outcome: Outcome) -> Payment:
    """Believe the provider, unless the payment is final already."""
    if payment.state is not State.PROCESSING or outcome.state is State.PROCESSING:
        return payment
    return replace(payment, state=outcome.state, decline_reason=outcome.decline_reason)


def charge_entries(payments: Sequence[Payment]) -> list[Entry]:
    """Return what the ledger says of those payments that were charged."""
    return [
        Entry(
            payment.payment_id,
            payment.order_id,
            TransactionType.CHARGE,
            payment.amount,
            payment.provider_reference,
        )
        for payment in payments
        if payment.state is State.SUCCEEDED and payment.amount is not None
    ]


def begin_refund(
    payment: Payment, earlier: Sequence[Refund], amount: Amount | None, idempotency_key: str | None
) -> Refund:
    """Return the next refund of a payment, over `amount` or all that is left.

    `earlier` are all refunds of the payment so far: those PENDING count as given back.

    Raises:
        errors.InvalidArgument: the amount is not positive or in another currency.
        errors.FailedPrecondition: the payment was not charged, or less than the amount is left.
    """
    if payment.state is not State.SUCCEEDED or payment.amount is None:
        message = f"The payment is {payment.state}: nothing was charged."
        raise errors.FailedPrecondition("PAYMENT_NOT_CHARGED", message)
    if amount is not None:
        _check_refund_amount(amount, payment.amount.currency_code)
    left_minor = payment.amount.minor - sum(
        refund.amount.minor for refund in earlier if refund.state is not RefundState.FAILED
    )
    wanted = amount or Amount(left_minor, payment.amount.currency_code)
    if wanted.minor > left_minor or left_minor == 0:
        message = f"Only {left_minor} minor units are left of the payment."
        raise errors.FailedPrecondition("REFUND_EXCEEDS_PAYMENT", message)
    number = 1 + max((refund.number for refund in earlier), default=0)
    return Refund(payment.payment_id, number, idempotency_key, wanted, RefundState.PENDING, "")


def find_repeated(
    earlier: Sequence[Refund], amount: Amount | None, idempotency_key: str | None
) -> Refund | None:
    """Return the refund that was made with this idempotency key, if there is one.

    No amount, which asks for what is left, repeats a refund over any amount.

    Raises:
        errors.KeyReused: the idempotency key was used for another amount.
    """
    if idempotency_key is None:
        return None
    found = next((refund for refund in earlier if refund.idempotency_key == idempotency_key), None)
    if found is not None and amount not in (None, found.amount):
        message = "The idempotency key was used for a refund over another amount."
        violation = errors.Violation("idempotency_key", "must not be used for two refunds")
        raise errors.KeyReused("IDEMPOTENCY_KEY_REUSED", message, violations=[violation])
    return found


def settle_refund(refund: Refund, outcome: RefundOutcome) -> Refund:
    """Believe the provider, unless the refund is final already."""
    if refund.state is not RefundState.PENDING or outcome.state is RefundState.PENDING:
        return refund
    return replace(refund, state=outcome.state, provider_reference=outcome.reference)


def give_back(payment: Payment, refunds: Sequence[Refund]) -> Payment:
    """Count refunds of the payment that have just succeeded."""
    given_minor = sum(refund.amount.minor for refund in refunds)
    return replace(payment, refunded_minor=payment.refunded_minor + given_minor)


def refund_entries(payment: Payment, refunds: Sequence[Refund]) -> list[Entry]:
    """Return what the ledger says of refunds of the payment that succeeded."""
    return [
        Entry(
            payment.payment_id,
            payment.order_id,
            TransactionType.REFUND,
            refund.amount,
            refund.provider_reference,
        )
        for refund in refunds
    ]


def _check_refund_amount(amount: Amount, currency_code: str) -> None:
    violations = errors.Violations()
    violations.check(amount.minor > 0, "amount", "must be positive")
    violations.check(
        amount.currency_code == currency_code,
        "amount.currency_code",
        "must be the currency of the payment",
    )
    violations.raise_any()
