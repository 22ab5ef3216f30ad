"""Giving money back: the steps that cross this database and a provider's, like those of charges."""

import uuid
from collections.abc import Mapping

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment import domain, repository
from services.payment.domain import Payment, Refund, RefundOutcome, RefundState
from services.payment.providers.provider import Provider, RefundRequest


class Refunds:
    """Gives back what was charged, never more."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider

    async def refund(
        self, payment_id: uuid.UUID, amount: Amount | None, idempotency_key: str | None
    ) -> Payment:
        """Give back an amount of a payment, or all that is left; return the payment after it.

        Also finishes refunds of this payment that a crash interrupted. With an idempotency key the
        call is safe to repeat, also while another call with that key runs.

        Raises:
            errors.NotFound: there is no such payment.
            errors.Unprocessable: the amount breaks a rule, or the idempotency key was used for
                another one.
            errors.FailedPrecondition: nothing was charged, less than the amount is left, or the
                provider refused.
            errors.Unavailable: the database or the provider did not answer; repeat it.
        """
        payment, refund, pending = await self._begin(payment_id, amount, idempotency_key)
        if pending:
            requests = [_to_request(payment, pending_refund) for pending_refund in pending]
            outcomes = await self._provider.refund(requests)
            numbers = [pending_refund.number for pending_refund in pending]
            payment, refunds = await self._record(
                payment_id, dict(zip(numbers, outcomes, strict=True))
            )
            refund = refunds[refund.number]
        if refund.state is RefundState.FAILED:
            message = "The payment provider refused the refund."
            raise errors.FailedPrecondition("REFUND_FAILED", message)
        return payment

    async def _begin(
        self, payment_id: uuid.UUID, amount: Amount | None, idempotency_key: str | None
    ) -> tuple[Payment, Refund, list[Refund]]:
        """Find or insert the refund; return it with all refunds of the payment that are pending."""
        async with self._database.transaction() as connection:
            # The lock makes refunds of one payment queue up: each sees what is left after the last.
            payment = await repository.get_payment(connection, payment_id, lock=True)
            refunds = await repository.list_refunds(connection, payment_id)
            refund = domain.find_repeated(refunds, amount, idempotency_key)
            if refund is None:
                refund = domain.begin_refund(payment, refunds, amount, idempotency_key)
                await repository.insert_refund(connection, refund)
                refunds.append(refund)
        return payment, refund, [each for each in refunds if each.state is RefundState.PENDING]

    async def _record(
        self, payment_id: uuid.UUID, outcomes: Mapping[int, RefundOutcome]
    ) -> tuple[Payment, dict[int, Refund]]:
        """Save outcomes, given by number, with the ledger; return all refunds by number."""
        async with self._database.transaction() as connection:
            payment = await repository.get_payment(connection, payment_id, lock=True)
            refunds = {
                refund.number: refund
                for refund in await repository.list_refunds(connection, payment_id)
            }
            settled = [
                after
                for number, outcome in outcomes.items()
                if (after := domain.settle_refund(refunds[number], outcome)) is not refunds[number]
            ]
            await repository.update_refunds(connection, settled)
            given = [refund for refund in settled if refund.state is RefundState.SUCCEEDED]
            if given:
                changed = domain.give_back(payment, given)
                payment = (await repository.update_payments(connection, [changed]))[
                    payment.order_id
                ]
                entries = domain.refund_entries(payment, given)
                await repository.insert_transactions(connection, entries)
        return payment, refunds | {refund.number: refund for refund in settled}


def _to_request(payment: Payment, refund: Refund) -> RefundRequest:
    key = f"refund:{payment.order_id}:{refund.number}"
    return RefundRequest(key, payment.provider_reference, refund.amount)
