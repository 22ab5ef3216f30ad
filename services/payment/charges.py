"""Charges and their cancellation: the steps that involve both the database and the provider.

Each step commits before the next begins, and no transaction is open during a call to the provider,
so that a crash leaves a state from which `Charges.process` can continue. The state transitions are
in `domain`.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence

from chassis.database import Database
from services.payment import domain, repository
from services.payment.domain import Charge, ChargeResult, NewPayment, Payment, State
from services.payment.providers.provider import Confirmation, IntentRequest, Provider

Payments = dict[uuid.UUID, Payment]
"""Payments by order id."""


class Charges:
    """Charges each order at most once, through one provider."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider

    async def process(self, charges: Sequence[Charge]) -> list[Payment]:
        """Charge orders, or continue earlier calls; return one payment per charge, in order.

        Idempotent, also while another call for the same orders runs.

        Raises:
            errors.KeyReused: the payment of an order has another amount; nothing is charged.
            errors.Unavailable: the database or the provider did not respond; retry the call.
        """
        payments = await self._find(charges)
        missing = [charge for charge in charges if charge.order_id not in payments]
        if missing:
            payments |= await self._insert(missing, await self._begin(missing))
        methods = {
            charge.order_id: charge.payment_method
            for charge in charges
            if payments[charge.order_id].state is State.PROCESSING
        }
        if methods:
            payments |= await self._record(await self._confirm(payments, methods))
        return [payments[charge.order_id] for charge in charges]

    async def cancel(self, order_ids: Sequence[uuid.UUID]) -> list[Payment]:
        """Cancel payments that are not charged yet; return one payment per order, in order.

        An order without a payment gets a cancelled one, which prevents a later charge.

        Raises:
            errors.Unavailable: the database or the provider did not respond; retry the call.
        """
        tombstones = [domain.make_tombstone(order_id) for order_id in order_ids]
        async with self._database.transaction() as connection:
            payments = await repository.insert_payments(connection, tombstones)
        processing = [payment for payment in payments.values() if payment.state is State.PROCESSING]
        if processing:
            references = [payment.provider_reference for payment in processing]
            results = await self._provider.cancel(references)
            ids = [payment.order_id for payment in processing]
            payments |= await self._record(dict(zip(ids, results, strict=True)))
        return [payments[order_id] for order_id in order_ids]

    async def _find(self, charges: Sequence[Charge]) -> Payments:
        order_ids = [charge.order_id for charge in charges]
        async with self._database.connection() as connection:
            payments = await repository.get_payments_of_orders(connection, order_ids)
        _check_amounts(payments, charges)
        return payments

    async def _begin(self, charges: Sequence[Charge]) -> list[NewPayment]:
        priced = [charge for charge in charges if charge.amount.minor > 0]
        requests = [IntentRequest(f"pi:{charge.order_id}", charge.amount) for charge in priced]
        references = await self._provider.create_intents(requests) if requests else []
        begun = [
            domain.begin_payment(charge, self._provider.name, reference)
            for charge, reference in zip(priced, references, strict=True)
        ]
        free = [charge for charge in charges if charge.amount.minor == 0]
        return begun + [domain.make_free_payment(charge) for charge in free]

    async def _insert(self, charges: Sequence[Charge], new: Sequence[NewPayment]) -> Payments:
        # Only a stored intent is ever confirmed: one that a crash loses is never charged, even if
        # its key expires at the provider and the next call creates another.
        async with self._database.transaction() as connection:
            payments = await repository.insert_payments(connection, new)
        _check_amounts(payments, charges)
        return payments

    async def _confirm(
        self, payments: Payments, methods: Mapping[uuid.UUID, str]
    ) -> dict[uuid.UUID, ChargeResult]:
        confirmations = [
            Confirmation(payments[order_id].provider_reference, method)
            for order_id, method in methods.items()
        ]
        results = await self._provider.confirm(confirmations)
        return dict(zip(methods, results, strict=True))

    async def _record(self, results: Mapping[uuid.UUID, ChargeResult]) -> Payments:
        return await self._change(
            list(results), lambda payment: domain.settle(payment, results[payment.order_id])
        )

    async def _change(
        self, order_ids: Sequence[uuid.UUID], decide: Callable[[Payment], Payment]
    ) -> Payments:
        """Lock payments, apply `decide` to each, and write changes and ledger entries."""
        async with self._database.transaction() as connection:
            payments = await repository.get_payments_of_orders(connection, order_ids, lock=True)
            changed = [
                after for before in payments.values() if (after := decide(before)) is not before
            ]
            if changed:
                payments |= await repository.update_payments(connection, changed)
            if entries := domain.charge_entries(changed):
                await repository.insert_transactions(connection, entries)
        return payments


def _check_amounts(payments: Payments, charges: Sequence[Charge]) -> None:
    for charge in charges:
        if charge.order_id in payments:
            domain.check_same_amount(payments[charge.order_id], charge)
