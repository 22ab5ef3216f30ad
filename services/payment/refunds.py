"""Refunds: the steps that involve both the database and the providers, as in `charges`."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from chassis import errors
from chassis.database import Connection, Database
from services.payment import refund, repository
from services.payment.domain import Payment, RefundResult, RefundState
from services.payment.providers.provider import Provider, RefundRequest
from services.payment.providers.registry import Providers, call_each
from services.payment.refund import NewRefund, Refund, RefundKey

Payments = Mapping[uuid.UUID, Payment]
"""Payments by order id."""


class Refunds:
    """Refunds at most what was charged."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._providers = providers

    async def refund(self, requests: Sequence[NewRefund]) -> list[Refund | errors.Error]:
        """Refund payments; return one refund per request, in order, or why there can be none.

        A refund is recorded before its provider is asked for it, and is PENDING until the result is
        known: a repeated request asks again. It is idempotent, also while another call with the
        same refunds runs. No refund may be requested twice in a batch.

        Raises:
            errors.Unavailable: the database did not respond; retry the call.
        """
        payments, refunds = await self._begin(requests)
        pending = [
            each
            for each in refunds.values()
            if isinstance(each, Refund) and each.state is RefundState.PENDING
        ]
        if pending:
            refunds |= await self._record(await self._ask(payments, pending))
        return [refunds[request.key] for request in requests]

    async def _begin(
        self, requests: Sequence[NewRefund]
    ) -> tuple[Payments, dict[RefundKey, Refund | errors.Error]]:
        async with self._database.transaction() as connection:
            # The locks serialize the refunds of a payment: each sees what the one before left.
            payments = await repository.get_payments_of_orders(
                connection, [request.order_id for request in requests], lock=True
            )
            recorded = await repository.find_refunds(connection, [each.key for each in requests])
            refunded_minor = await repository.sum_refunds(connection, list(payments))
            refunds = refund.begin(requests, payments, recorded, refunded_minor)
            new = [
                each
                for key, each in refunds.items()
                if isinstance(each, Refund) and key not in recorded
            ]
            if new:
                await repository.insert_refunds(connection, new)
        return payments, refunds

    async def _ask(
        self, payments: Payments, pending: Sequence[Refund]
    ) -> dict[RefundKey, RefundResult]:
        """Call the provider of each payment; one that does not respond has no results."""
        by_provider = self._providers.group(pending, lambda each: payments[each.order_id].provider)

        async def refund_batch(
            provider: Provider, batch: Sequence[Refund]
        ) -> dict[RefundKey, RefundResult]:
            requests = [_to_request(payments[each.order_id], each) for each in batch]
            found = await provider.refund(requests)
            return dict(zip((each.key for each in batch), found, strict=True))

        results: dict[RefundKey, RefundResult] = {}
        for found in (await call_each(by_provider, refund_batch)).values():
            results |= found
        return results

    async def _record(self, results: Mapping[RefundKey, RefundResult]) -> dict[RefundKey, Refund]:
        """Write results, with the ledger entries of refunds that succeeded; return the refunds."""
        async with self._database.transaction() as connection:
            payments = await repository.get_payments_of_orders(
                connection, [order_id for order_id, _ in results], lock=True
            )
            before = await repository.find_refunds(connection, list(results))
            after = {key: refund.settle(each, results[key]) for key, each in before.items()}
            changed = [each for key, each in after.items() if each is not before[key]]
            if changed:
                await repository.update_refunds(connection, changed)
            succeeded = [each for each in changed if each.state is RefundState.SUCCEEDED]
            if succeeded:
                await _write_to_ledger(connection, payments, succeeded)
        return after


async def _write_to_ledger(
    connection: Connection, payments: Payments, succeeded: Iterable[Refund]
) -> None:
    by_order: dict[uuid.UUID, list[Refund]] = defaultdict(list)
    for each in succeeded:
        by_order[each.order_id].append(each)
    changed = [refund.add_refunds(payments[key], refunds) for key, refunds in by_order.items()]
    await repository.update_payments(connection, changed)
    entries = [refund.to_entry(each) for each in succeeded]
    await repository.insert_transactions(connection, entries)


def _to_request(payment: Payment, pending: Refund) -> RefundRequest:
    key = f"refund:{payment.order_id}:{pending.number}"
    return RefundRequest(key, payment.provider_reference, pending.number, pending.amount)
