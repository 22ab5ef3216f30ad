"""The refund protocol: accepts refunds and drives each to its end, as `checkout` does orders.

A refund is accepted together with its note on the order, which is then due again: the row of the
order is the work item. First the money is refunded, then units are put back into stock, then the
refund is settled. The calls are idempotent by the order and the number of the refund. A refund can
therefore be left at any point and continued by any process, also by two at once. The rules are in
`refund`.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence

from chassis import audit, log
from chassis.database import Database
from services.order import batches, failure, messages, refund, refund_repository, repository
from services.order.domain import Order
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.failure import REFUND_PENDING, Failure
from services.order.peers import Peers, RefundResults
from services.order.postponement import postpone
from services.order.refund import NewRefund, Refund, RefundKey, RefundState

MAX_REFUNDS = batches.MAX_ORDERS
"""The most refunds that are driven at once; others of the same orders are left to the worker."""


class Refunds:
    """Accepts and drives refunds; `cause` is recorded with every change of an order."""

    def __init__(
        self, database: Database, peers: Peers, event_log: EventLog, cause: Cause = Cause.CLIENT
    ) -> None:
        self._database = database
        self._peers = peers
        self._event_log = event_log
        self._cause = cause
        self._log = log.logger()

    async def refund(
        self, order_id: uuid.UUID, new: NewRefund, drive_seconds: float | None = None
    ) -> Refund:
        """Accept a refund of an order, or find the one with its key, and drive it; return it.

        A refund that is still PENDING, for example after `drive_seconds`, is left to the worker.

        Raises:
            errors.NotFound: the order does not exist.
            domain.Conflict: the order does not have what is to be refunded, or the refund failed.
            errors.Unprocessable: the amount is in another currency, or the key is of another
                refund.
            errors.Unavailable: the database is down; whether the refund was accepted is unknown.
        """
        accepted = await self._accept(order_id, new)
        if accepted.state is RefundState.PENDING:
            await self.drive([order_id], drive_seconds)
            async with self._database.connection() as connection:
                accepted = await refund_repository.get(connection, accepted.key)
        if (error := refund.find_error(accepted)) is not None:
            raise error
        return accepted

    async def drive(self, order_ids: Iterable[uuid.UUID], seconds: float | None = None) -> None:
        """Continue the pending refunds of orders, each as far as possible.

        What has to wait, or is not done after `seconds`, is left to the worker.
        """
        unfinished: dict[uuid.UUID, Failure | None] = dict.fromkeys(order_ids)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._drive_pending(unfinished)
        finally:
            # Also if the client has left, or the server stops: the worker goes on at once.
            await postpone(self._database, unfinished)

    async def _accept(self, order_id: uuid.UUID, new: NewRefund) -> Refund:
        async with self._database.transaction() as connection:
            # Until the transaction ends, nobody else ships or refunds the order.
            order = await repository.get_order(connection, order_id, lock=True)
            repeated = await refund_repository.find_repeated(connection, order_id, new)
            if repeated is not None:
                refund.check_same_request(repeated, new)
                return repeated
            restocked = await refund_repository.sum_restocked(connection, order_id)
            changed, amount = refund.begin(order, new, restocked)
            accepted = await refund_repository.accept_refund(connection, order_id, new, amount)
            await refund_repository.note(connection, [(changed, accepted)], self._cause)
            await audit.record(connection, [messages.to_refund_change(accepted)])
        self._event_log.note_change()
        return accepted

    async def _drive_pending(self, unfinished: dict[uuid.UUID, Failure | None]) -> None:
        """Remove the orders whose refunds are all final, and note why the others have to wait.

        This is done in place: what is done counts also if a timeout comes.
        """
        async with self._database.connection() as connection:
            pending = await refund_repository.list_pending(
                connection, list(unfinished), MAX_REFUNDS
            )
        sized = [(each, 1 + len(each.restock)) for each in pending]
        for batch in batches.split(sized):
            results = await batches.halve(self._advance, batch, self._fail)
            for each, result in zip(batch, results, strict=True):
                if isinstance(result, Failure):
                    unfinished[each.order_id] = _worse(unfinished.get(each.order_id), result)
                elif not result.pending_refunds:
                    unfinished.pop(each.order_id, None)

    async def _advance(self, batch: Sequence[Refund]) -> list[Order | Failure]:
        """Settle those refunds whose outcome is known.

        Return the order of each of these, and for each of the others why it has to wait.
        """
        try:
            results = await self._make(batch)
            final = {
                key: result
                for key, result in results.items()
                if isinstance(result, RefundState) and result is not RefundState.PENDING
            }
            orders = await self._settle(final)
        except batches.TRANSIENT as error:
            return [failure.from_outage(error)] * len(batch)
        failures = {key: each for key, each in results.items() if isinstance(each, Failure)}
        return [
            orders[each.order_id] if each.key in final else failures.get(each.key, REFUND_PENDING)
            for each in batch
        ]

    async def _make(self, batch: Sequence[Refund]) -> RefundResults:
        """Make refunds; one that puts units back has succeeded once they are in stock."""
        results = await self._peers.refund_payments(batch)
        refunded = [each for each in batch if results.get(each.key) is RefundState.SUCCEEDED]
        # The money first: units are back on sale only if they are paid back.
        if restock := [each for each in refunded if each.restock]:
            returned = await self._peers.return_stock(restock)
            results |= {each.key: returned.get(each.key, REFUND_PENDING) for each in restock}
        return results

    async def _settle(self, states: Mapping[RefundKey, RefundState]) -> dict[uuid.UUID, Order]:
        """Write final states, except for refunds that another process has settled.

        Return the orders by their ids, as they are now.
        """
        order_ids = list({order_id for order_id, _ in states})
        if not order_ids:
            return {}
        async with self._database.transaction() as connection:
            orders = await refund_repository.lock_orders(connection, order_ids)
            changes = []
            for pending in await refund_repository.find_pending(connection, states):
                order = orders[pending.order_id]
                changed, settled = refund.settle(order, pending, states[pending.key])
                orders[changed.order_id] = changed
                changes.append((changed, settled))
            if changes:
                refunds = [settled for _, settled in changes]
                await refund_repository.settle_refunds(connection, refunds)
                await refund_repository.note(connection, changes, self._cause)
        self._event_log.note_change()
        return orders

    def _fail(self, failed: Refund, error: Exception) -> Failure:
        order_id = str(failed.order_id)
        self._log.exception("refund_failed", order_id=order_id, number=failed.number)
        return failure.from_defect(error)


def _worse(first: Failure | None, second: Failure) -> Failure:
    return first if first is not None and first.is_defect else second
