"""Charges and their cancellation: the steps that involve both the database and the provider.

Each step commits before the next begins, and no transaction is open during a call to the provider,
so that a crash leaves a state from which `Charges.process` can continue. The state transitions are
in `domain`.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence

from chassis.database import Database
from services.payment import domain, repository
from services.payment.domain import Charge, ChargeResult, Payment, State
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
        payments = await self._begin(charges)
        new = [charge for charge in charges if payments[charge.order_id].state is State.NEW]
        if new:
            payments |= await self._store_intents(await self._create_intents(new))
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
        async with self._database.transaction() as connection:
            tombstones = [domain.make_tombstone(order_id) for order_id in order_ids]
            await repository.insert_payments(connection, tombstones)
        payments = await self._change(order_ids, domain.cancel_unattached)
        processing = [payment for payment in payments.values() if payment.state is State.PROCESSING]
        if processing:
            references = [payment.provider_reference for payment in processing]
            results = await self._provider.cancel(references)
            ids = [payment.order_id for payment in processing]
            payments |= await self._record(dict(zip(ids, results, strict=True)))
        return [payments[order_id] for order_id in order_ids]

    async def _begin(self, charges: Sequence[Charge]) -> Payments:
        async with self._database.transaction() as connection:
            new = [domain.begin_payment(charge, self._provider.name) for charge in charges]
            await repository.insert_payments(connection, new)
            # Unlike the insert, a new statement sees the payments that concurrent calls inserted.
            payments = await repository.get_payments_of_orders(
                connection, [charge.order_id for charge in charges]
            )
            for charge in charges:
                domain.check_same_amount(payments[charge.order_id], charge)
        return payments

    async def _create_intents(self, charges: Sequence[Charge]) -> dict[uuid.UUID, str]:
        requests = [IntentRequest(f"pi:{charge.order_id}", charge.amount) for charge in charges]
        references = await self._provider.create_intents(requests)
        return dict(zip([charge.order_id for charge in charges], references, strict=True))

    async def _store_intents(self, references: Mapping[uuid.UUID, str]) -> Payments:
        # Only a stored intent is ever confirmed: one that a crash loses is never charged, even if
        # its key expires at the provider and the next call creates another.
        return await self._change(
            list(references),
            lambda payment: domain.attach_intent(payment, references[payment.order_id]),
        )

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
