"""Charging orders and cancelling that: the steps that cross this database and a provider's.

Each step ends in a commit before the next begins, and no transaction is open while the provider is
asked, so a crash leaves one of the states that `Charges.process` drives on from. What may follow
what is decided in domain.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence

from chassis.database import Database
from services.payment import domain, repository
from services.payment.domain import Charge, Outcome, Payment, State
from services.payment.providers.provider import Confirmation, IntentRequest, Provider

Payments = dict[uuid.UUID, Payment]
"""Payments by order id."""


class Charges:
    """Charges each order once, with one provider."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider

    async def process(self, charges: Sequence[Charge]) -> list[Payment]:
        """Charge orders, or finish what an earlier call began; answer in the order of the charges.

        Safe to repeat, also while another call for the same orders runs.

        Raises:
            errors.KeyReused: an order's payment is for another amount; nothing was begun.
            errors.Unavailable: the database or the provider did not answer; repeat it.
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
        """Cancel the payments of orders unless they were charged; answer in the order of the ids.

        An order without a payment gets one that is cancelled, which stops a charge that comes late.

        Raises:
            errors.Unavailable: the database or the provider did not answer; repeat it.
        """
        async with self._database.transaction() as connection:
            drafts = [domain.make_tombstone(order_id) for order_id in order_ids]
            await repository.insert_payments(connection, drafts)
        payments = await self._change(order_ids, domain.cancel_unattached)
        processing = [payment for payment in payments.values() if payment.state is State.PROCESSING]
        if processing:
            references = [payment.provider_reference for payment in processing]
            outcomes = await self._provider.cancel(references)
            ids = [payment.order_id for payment in processing]
            payments |= await self._record(dict(zip(ids, outcomes, strict=True)))
        return [payments[order_id] for order_id in order_ids]

    async def _begin(self, charges: Sequence[Charge]) -> Payments:
        async with self._database.transaction() as connection:
            drafts = [domain.begin_payment(charge, self._provider.name) for charge in charges]
            await repository.insert_payments(connection, drafts)
            # A statement of its own sees the payments that another call inserted meanwhile.
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
        # Only a stored intent is ever confirmed: one that is lost here charges nobody, even if the
        # provider has forgotten its key by the next call and creates another.
        return await self._change(
            list(references),
            lambda payment: domain.attach_intent(payment, references[payment.order_id]),
        )

    async def _confirm(
        self, payments: Payments, methods: Mapping[uuid.UUID, str]
    ) -> dict[uuid.UUID, Outcome]:
        confirmations = [
            Confirmation(payments[order_id].provider_reference, method)
            for order_id, method in methods.items()
        ]
        outcomes = await self._provider.confirm(confirmations)
        return dict(zip(methods, outcomes, strict=True))

    async def _record(self, outcomes: Mapping[uuid.UUID, Outcome]) -> Payments:
        return await self._change(
            list(outcomes), lambda payment: domain.settle(payment, outcomes[payment.order_id])
        )

    async def _change(
        self, order_ids: Sequence[uuid.UUID], decide: Callable[[Payment], Payment]
    ) -> Payments:
        """Lock payments, decide on each as it is now, save what changed, and the ledger with it."""
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
