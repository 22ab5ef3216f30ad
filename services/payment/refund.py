"""Refunds of payments, and their rules. No I/O, no clock, no protobuf.

A refund is identified by the order of its payment and by a number, which the order service chooses.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from chassis import errors
from chassis.money import Amount
from chassis.violations import Violations
from services.payment.domain import (
    LedgerEntry,
    Payment,
    RefundResult,
    RefundState,
    State,
    TransactionType,
)

RefundKey = tuple[uuid.UUID, int]
"""The order and the number of a refund."""


@dataclass(frozen=True, slots=True)
class NewRefund:
    """A refund that is requested, possibly once more."""

    order_id: uuid.UUID
    number: int
    amount: Amount

    @property
    def key(self) -> RefundKey:
        """The order and the number."""
        return self.order_id, self.number


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund of a payment, or of a part of it. `number` counts those of the order from 1."""

    payment_id: uuid.UUID
    order_id: uuid.UUID
    number: int
    amount: Amount
    state: RefundState = RefundState.PENDING
    provider_reference: str = ""

    @property
    def key(self) -> RefundKey:
        """The order and the number."""
        return self.order_id, self.number


def check_refunds(requests: Sequence[NewRefund]) -> None:
    """Check what the proto does not state of a batch of refunds.

    Raises:
        errors.Unprocessable: with a violation per invalid field.
    """
    violations = Violations()
    seen: set[RefundKey] = set()
    for index, request in enumerate(requests):
        field = f"refunds[{index}]"
        violations.check(request.key not in seen, f"{field}.number", "must not be repeated")
        seen.add(request.key)
        violations.check(request.amount.minor > 0, f"{field}.amount", "must be positive")
    violations.raise_any()


def begin(
    requests: Iterable[NewRefund],
    payments: Mapping[uuid.UUID, Payment],
    recorded: Mapping[RefundKey, Refund],
    refunded_minor: Mapping[uuid.UUID, int],
) -> dict[RefundKey, Refund | errors.Error]:
    """Return the recorded or new refunds, or why a payment cannot have one, by their keys.

    `payments` and `refunded_minor` are by order id: the payments, which must be locked, and the
    sums of their refunds that are PENDING or SUCCEEDED. A new refund of more than remains is FAILED
    at once: once it is recorded, no repetition can succeed, whatever remains by then.
    """
    results: dict[RefundKey, Refund | errors.Error] = {}
    reserved = Counter(refunded_minor)
    for request in requests:
        try:
            if request.key in recorded:
                results[request.key] = _check_same(recorded[request.key], request)
                continue
            amount = _find_charged(request, payments.get(request.order_id))
        except errors.Error as error:
            results[request.key] = error
            continue
        remaining_minor = amount.minor - reserved[request.order_id]
        is_possible = request.amount.minor <= remaining_minor
        state = RefundState.PENDING if is_possible else RefundState.FAILED
        payment_id = payments[request.order_id].payment_id
        results[request.key] = Refund(
            payment_id, request.order_id, request.number, request.amount, state
        )
        reserved[request.order_id] += request.amount.minor if is_possible else 0
    return results


def settle(refund: Refund, result: RefundResult) -> Refund:
    """Apply the provider's result, unless the refund is final already."""
    if refund.state is not RefundState.PENDING or result.state is RefundState.PENDING:
        return refund
    return replace(refund, state=result.state, provider_reference=result.reference)


def add_refunds(payment: Payment, refunds: Iterable[Refund]) -> Payment:
    """Add refunds that have just succeeded to the refunded amount."""
    added_minor = sum(refund.amount.minor for refund in refunds)
    return replace(payment, refunded_minor=payment.refunded_minor + added_minor)


def to_entry(refund: Refund) -> LedgerEntry:
    """Return the ledger entry of a refund that has succeeded."""
    return LedgerEntry(
        refund.payment_id,
        refund.order_id,
        TransactionType.REFUND,
        refund.amount,
        refund.provider_reference,
    )


def _check_same(recorded: Refund, request: NewRefund) -> Refund:
    if recorded.amount == request.amount:
        return recorded
    message = "The number was used for a refund of another amount."
    raise errors.KeyReused("REFUND_DIFFERS", message, metadata=_metadata(request))


def _find_charged(request: NewRefund, payment: Payment | None) -> Amount:
    """Return the amount that was charged, in the currency of the refund."""
    if payment is None:
        message = "The order has no payment."
        raise errors.NotFound("PAYMENT_NOT_FOUND", message, metadata=_metadata(request))
    if payment.state is not State.SUCCEEDED or payment.amount is None:
        message = f"The payment is {payment.state}: nothing was charged."
        raise errors.FailedPrecondition("PAYMENT_NOT_CHARGED", message, metadata=_metadata(request))
    if payment.amount.currency_code != request.amount.currency_code:
        message = "The payment is in another currency."
        raise errors.Unprocessable("CURRENCY_MISMATCH", message, metadata=_metadata(request))
    return payment.amount


def _metadata(request: NewRefund) -> dict[str, str]:
    return {"order_id": str(request.order_id), "number": str(request.number)}
