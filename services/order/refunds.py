"""The last step of the order protocol: refunds, which are driven like orders in `checkout`.

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
from functools import partial

from chassis import log
from chassis.database import Database
from services.order import batches, queue_repository, refund, refund_repository, repository
from services.order.domain import Order, RefundState
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.peers import Peers
from services.order.refund import NewRefund, Refund, RefundKey

MAX_REFUNDS = batches.MAX_ORDERS
"""The most refunds that are driven at once; others of the same orders are left to the worker."""

Failures = dict[uuid.UUID, str | None]
"""The defects of orders with refunds that have to wait; None where a service was down."""


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
        failures: Failures = dict.fromkeys(order_ids)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._take_step(failures)
        finally:
            # Also if the client has left, or the server stops: the worker goes on at once.
            await self._postpone(failures)

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
        self._event_log.note_change()
        return accepted

    async def _take_step(self, failures: Failures) -> None:
        async with self._database.connection() as connection:
            pending = await refund_repository.list_pending(connection, list(failures), MAX_REFUNDS)
        sized = [(each, 1 + len(each.restock)) for each in pending]
        for batch in batches.split(sized):
            advance = partial(self._advance, failures)
            defects = await batches.halve(advance, batch, self._fail)
            for each, defect in zip(batch, defects, strict=True):
                if defect is not None:
                    failures[each.order_id] = defect

    async def _advance(self, failures: Failures, batch: Sequence[Refund]) -> list[str | None]:
        """Settle those refunds whose outcome is known; the others have to wait."""
        with contextlib.suppress(*batches.TRANSIENT):
            states = await self._peers.refund_payments(batch)
            refunded = [each for each in batch if states.get(each.key) is RefundState.SUCCEEDED]
            # The money first: units are back on sale only if they are paid back.
            restock = [each for each in refunded if each.restock]
            returned = await self._peers.return_stock(restock) if restock else set()
            waiting = {each.key for each in restock} - returned
            orders = await self._settle(
                {
                    key: state
                    for key, state in states.items()
                    if state is not RefundState.PENDING and key not in waiting
                }
            )
            for order in orders:
                if not order.pending_refunds:
                    failures.pop(order.order_id, None)
        return [None] * len(batch)

    async def _settle(self, states: Mapping[RefundKey, RefundState]) -> list[Order]:
        """Write final states, except for refunds that another process has settled.

        Return the orders as they are now.
        """
        order_ids = list({order_id for order_id, _ in states})
        if not order_ids:
            return []
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
        return list(orders.values())

    def _fail(self, failed: Refund, error: Exception) -> str:
        order_id = str(failed.order_id)
        self._log.exception("refund_failed", order_id=order_id, number=failed.number)
        return batches.describe_defect(error)

    async def _postpone(self, failures: Failures) -> None:
        if not failures:
            return
        try:
            async with self._database.connection() as connection:
                await queue_repository.postpone(connection, failures)
        except batches.TRANSIENT as error:
            # The orders are due when their leases end.
            self._log.warning("refunds_not_postponed", orders=len(failures), reason=error.reason)
