"""Charges and their cancellation: the steps that involve both the database and the providers.

Each step commits before the next begins, and no transaction is open during a call to a provider,
so that a crash leaves a state from which `Charges` can continue. The state transitions are in
`domain`.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from chassis import errors, log
from chassis.database import Connection, Database
from services.payment import domain, provider_calls, release_repository, repository
from services.payment.domain import Charge, ChargeResult, NewPayment, Payment, State
from services.payment.providers.provider import Provider
from services.payment.providers.registry import Providers, call_each, token_of

Payments = dict[uuid.UUID, Payment]
"""Payments by order id."""
Results = dict[uuid.UUID, ChargeResult]
"""Provider results by order id."""

_LOG = log.logger()


class Charges:
    """Charges each order at most once, through one of the providers."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._providers = providers

    async def process(self, charges: Sequence[Charge]) -> list[Payment]:
        """Charge orders, or continue earlier calls; return their payments, in request order.

        A payment that requires an action or a capture has that state, and the action. A charge has
        no payment yet if its provider did not respond. Idempotent, also while another call for the
        same orders runs.

        Raises:
            errors.KeyReused: the payment of an order has another amount; nothing is charged.
            errors.Unavailable: the database did not respond, or no charge has a payment yet; retry
                the call.
        """
        found = await self._find(charges)
        batches: dict[Provider | None, list[Charge]] = defaultdict(list)
        for charge in charges:
            batches[self._providers.find_for(charge.payment_method)].append(charge)
        payments = await _gather(
            self._process(provider, batch, found) for provider, batch in batches.items()
        )
        if not payments and charges:
            message = "The payment provider did not respond."
            raise errors.Unavailable("PROVIDER_UNAVAILABLE", message)
        return [payments[each.order_id] for each in charges if each.order_id in payments]

    async def capture(self, order_ids: Sequence[uuid.UUID]) -> list[Payment]:
        """Charge payments that require a capture; return one payment per order, in order.

        The stock of the orders must be pinned. Idempotent like `process`.

        Raises:
            errors.NotFound: an order has no payment.
            errors.Unavailable: the database did not respond; retry the call.
        """
        async with self._database.connection() as connection:
            payments = await repository.get_payments_of_orders(connection, order_ids)
        for order_id in order_ids:
            if order_id not in payments:
                raise errors.not_found("payment of order", order_id)
        batches = self._by_provider(_processing(payments)).values()
        payments |= await _gather(self._capture(batch) for batch in batches)
        return [payments[order_id] for order_id in order_ids]

    async def cancel(self, order_ids: Sequence[uuid.UUID]) -> list[Payment]:
        """Cancel payments that are not charged yet; return one payment per order, in order.

        An order without a payment gets a cancelled one, which prevents a later charge. The provider
        is asked about declined payments too, and believed if it has charged one. A payment stays
        PROCESSING if its provider did not respond.

        Raises:
            errors.Unavailable: the database did not respond; retry the call.
        """
        tombstones = [domain.make_tombstone(order_id) for order_id in order_ids]
        async with self._database.transaction() as connection:
            payments = await repository.insert_payments(connection, tombstones)
        cancellable = [payment for payment in payments.values() if domain.is_cancellable(payment)]
        while cancellable:
            before = {payment.order_id: payment for payment in cancellable}
            after = await self._cancel(before)
            # A hold that was stored during the call has to be released as well.
            cancellable = [
                each
                for each in _processing(after)
                if each.authorization_reference != before[each.order_id].authorization_reference
            ]
            payments |= after
        return [payments[order_id] for order_id in order_ids]

    async def settle(
        self, connection: Connection, order_id: uuid.UUID, result: ChargeResult
    ) -> None:
        """Record what the provider says of a payment, in the transaction of the connection."""
        await self._write(connection, [order_id], lambda payment: domain.settle(payment, result))

    async def _find(self, charges: Sequence[Charge]) -> Payments:
        order_ids = [charge.order_id for charge in charges]
        async with self._database.connection() as connection:
            payments = await repository.get_payments_of_orders(connection, order_ids)
        _check_amounts(payments, charges)
        return payments

    async def _process(
        self, provider: Provider | None, charges: Sequence[Charge], found: Payments
    ) -> Payments:
        """Process the charges of one provider.

        Providers run at once: a slow one delays no other. `found` has the payments of all orders
        that have one.
        """
        order_ids = [charge.order_id for charge in charges]
        payments = {key: found[key] for key in order_ids if key in found}
        missing = [charge for charge in charges if charge.order_id not in payments]
        if missing:
            payments |= await self._insert(missing, await _begin(provider, missing))
        methods = {charge.order_id: token_of(charge.payment_method) for charge in charges}
        results = await self._ask(
            _processing(payments),
            lambda provider, batch: provider_calls.confirm(provider, batch, methods),
        )
        payments |= await self._record(results)
        return {key: domain.present(each, results.get(key)) for key, each in payments.items()}

    async def _insert(self, charges: Sequence[Charge], new: Sequence[NewPayment]) -> Payments:
        # Only a stored intent is ever confirmed: one that a crash loses is never charged, even if
        # its key expires at the provider and the next call creates another.
        async with self._database.transaction() as connection:
            payments = await repository.insert_payments(connection, new)
        _check_amounts(payments, charges)
        return payments

    async def _authorize(self, payments: Sequence[Payment]) -> Payments:
        """Hold the money of approved payments, and store the holds; return those that have one."""
        # Nothing but the stored hold is captured, so no other is needed.
        held = {each.order_id: each.authorization_reference for each in payments}
        new_holds = self._by_provider(each for each in payments if not held[each.order_id])
        for found in (await call_each(new_holds, provider_calls.authorize)).values():
            held |= found
        after = {each.order_id: each for each in payments if held[each.order_id]}
        # An intent that is its own hold is stored already.
        new = [
            key
            for key, each in after.items()
            if held[key] not in (each.provider_reference, each.authorization_reference)
        ]
        after |= await self._change(new, lambda each: domain.hold(each, held[each.order_id]))
        # A payment that was cancelled meanwhile must not keep the money.
        cancelled = [each for each in after.values() if each.state is State.CANCELLED]
        await self._ask(cancelled, provider_calls.cancel)
        return after

    async def _capture(self, payments: Sequence[Payment]) -> Payments:
        """Capture payments of one provider."""
        held = await self._authorize(payments)
        results = await self._ask(_processing(held), provider_calls.capture)
        return held | await self._record(results)

    async def _cancel(self, before: Payments) -> Payments:
        results = await self._ask(before.values(), provider_calls.cancel)
        return await self._change(
            list(results),
            lambda payment: domain.settle_cancelled(
                payment, before[payment.order_id], results[payment.order_id]
            ),
        )

    async def _ask(
        self,
        payments: Iterable[Payment],
        call: Callable[[Provider, Sequence[Payment]], Awaitable[Sequence[ChargeResult]]],
    ) -> Results:
        """Call the provider of each payment; one that does not respond has no results."""
        results: Results = {}
        by_provider = self._by_provider(payments)
        for provider, found in (await call_each(by_provider, call)).items():
            results |= {
                payment.order_id: _check_amount(payment, result)
                for payment, result in zip(by_provider[provider], found, strict=True)
            }
        return results

    def _by_provider(self, payments: Iterable[Payment]) -> Mapping[Provider, list[Payment]]:
        return self._providers.group(payments, lambda payment: payment.provider)

    async def _record(self, results: Results) -> Payments:
        return await self._change(
            [key for key, result in results.items() if result.state not in domain.UNSETTLED],
            lambda payment: domain.settle(payment, results[payment.order_id]),
        )

    async def _change(
        self, order_ids: Sequence[uuid.UUID], decide: Callable[[Payment], Payment]
    ) -> Payments:
        """Change payments in a transaction of its own."""
        if not order_ids:
            return {}
        async with self._database.transaction() as connection:
            return await self._write(connection, order_ids, decide)

    async def _write(
        self,
        connection: Connection,
        order_ids: Sequence[uuid.UUID],
        decide: Callable[[Payment], Payment],
    ) -> Payments:
        """Lock payments, apply `decide` to each, and write changes and ledger entries."""
        payments = await repository.get_payments_of_orders(connection, order_ids, lock=True)
        changed = [after for before in payments.values() if (after := decide(before)) is not before]
        if changed:
            payments |= await repository.update_payments(connection, changed)
        if late := [each for each in changed if self._may_be_held(each)]:
            await release_repository.schedule(connection, late)
        if entries := domain.charge_entries(changed):
            await repository.insert_transactions(connection, entries)
        return payments

    def _may_be_held(self, payment: Payment) -> bool:
        """Return whether a cancelled payment may still be authorized by a call that is late."""
        if payment.state is not State.CANCELLED:
            return False
        provider = self._providers.find(payment.provider)
        return provider is not None and not provider.cancellation_is_final


async def _begin(provider: Provider | None, charges: Sequence[Charge]) -> list[NewPayment]:
    """Create intents; leave out charges for which the provider did not respond."""
    begun = [domain.make_free_payment(each) for each in charges if each.amount.minor == 0]
    priced = [each for each in charges if each.amount.minor != 0]
    if provider is None:
        return begun + [domain.decline(each, "", "unknown_provider") for each in priced]
    if priced:
        created = await call_each({provider: priced}, provider_calls.create_intents)
        begun += created.get(provider, [])
    return begun


async def _gather(calls: Iterable[Awaitable[Payments]]) -> Payments:
    """Run calls at once and merge their payments.

    The first exception is raised once all have ended.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    merged: Payments = {}
    for result in results:
        if isinstance(result, BaseException):
            raise result
        merged |= result
    return merged


def _processing(payments: Payments) -> list[Payment]:
    return [each for each in payments.values() if each.state is State.PROCESSING]


def _check_amount(payment: Payment, result: ChargeResult) -> ChargeResult:
    """Return a result, unless it is for another amount: nothing follows from that."""
    if not domain.is_for_another_amount(payment, result):
        return result
    _LOG.error("payment_amount_differs", payment_id=str(payment.payment_id))
    return ChargeResult(State.PROCESSING)


def _check_amounts(payments: Payments, charges: Sequence[Charge]) -> None:
    for charge in charges:
        if charge.order_id in payments:
            domain.check_same_amount(payments[charge.order_id], charge)
