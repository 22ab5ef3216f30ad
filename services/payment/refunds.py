"""Refunds: the steps that involve both the database and the provider, as in `charges`."""

import uuid
from collections.abc import Mapping

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment import domain, repository
from services.payment.domain import Payment, Refund, RefundResult, RefundState
from services.payment.providers.provider import RefundRequest
from services.payment.providers.registry import Providers


class Refunds:
    """Refunds at most what was charged."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._providers = providers

    async def refund(
        self, payment_id: uuid.UUID, amount: Amount | None, idempotency_key: str | None
    ) -> Payment:
        """Refund an amount of a payment, or all that remains; return the payment afterwards.

        Also completes refunds of this payment that a crash interrupted. With an idempotency key the
        call is idempotent, also while another call with that key runs.

        Raises:
            errors.NotFound: the payment does not exist.
            errors.Unprocessable: the amount is invalid, or the idempotency key was used for another
                one.
            errors.FailedPrecondition: nothing was charged, less than the amount remains, or the
                provider rejected the refund.
            errors.Unavailable: the database or the provider did not respond; retry the call.
        """
        payment, refund, pending = await self._begin(payment_id, amount, idempotency_key)
        if pending:
            requests = [_to_request(payment, pending_refund) for pending_refund in pending]
            results = await self._providers.get(payment.provider).refund(requests)
            numbers = [pending_refund.number for pending_refund in pending]
            payment, refunds = await self._record(
                payment_id, dict(zip(numbers, results, strict=True))
            )
            refund = refunds[refund.number]
        if refund.state is RefundState.FAILED:
            message = "The payment provider rejected the refund."
            raise errors.FailedPrecondition("REFUND_FAILED", message)
        return payment

    async def _begin(
        self, payment_id: uuid.UUID, amount: Amount | None, idempotency_key: str | None
    ) -> tuple[Payment, Refund, list[Refund]]:
        """Find or insert the refund; return it with all pending refunds of the payment."""
        async with self._database.transaction() as connection:
            # The lock serializes refunds of a payment: each sees what the one before left.
            payment = await repository.get_payment(connection, payment_id, lock=True)
            refunds = await repository.list_refunds(connection, payment_id)
            refund = domain.find_repeated(refunds, amount, idempotency_key)
            if refund is None:
                refund = domain.begin_refund(payment, refunds, amount, idempotency_key)
                await repository.insert_refund(connection, refund)
                refunds.append(refund)
        return payment, refund, [each for each in refunds if each.state is RefundState.PENDING]

    async def _record(
        self, payment_id: uuid.UUID, results: Mapping[int, RefundResult]
    ) -> tuple[Payment, dict[int, Refund]]:
        """Write results and ledger entries; results and returned refunds are by number."""
        async with self._database.transaction() as connection:
            payment = await repository.get_payment(connection, payment_id, lock=True)
            refunds = {
                refund.number: refund
                for refund in await repository.list_refunds(connection, payment_id)
            }
            settled = [
                after
                for number, result in results.items()
                if (after := domain.settle_refund(refunds[number], result)) is not refunds[number]
            ]
            await repository.update_refunds(connection, settled)
            succeeded = [refund for refund in settled if refund.state is RefundState.SUCCEEDED]
            if succeeded:
                changed = domain.add_refunds(payment, succeeded)
                (payment,) = (await repository.update_payments(connection, [changed])).values()
                entries = domain.refund_entries(payment, succeeded)
                await repository.insert_transactions(connection, entries)
        return payment, refunds | {refund.number: refund for refund in settled}


def _to_request(payment: Payment, refund: Refund) -> RefundRequest:
    key = f"refund:{payment.order_id}:{refund.number}"
    return RefundRequest(
        key,
        payment.provider_reference,
        payment.authorization_reference,
        refund.number,
        refund.amount,
    )
