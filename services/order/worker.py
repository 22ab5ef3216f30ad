"""Finishes orders and refunds that no request drives any more, because of a crash or an outage.

The rows of active orders, and of those with pending refunds, are the queue: the worker claims those
that are due by a lease, and drives them as a request would. Any number of processes may run it.
"""

import uuid
from collections.abc import Sequence
from functools import partial

from chassis import errors, log
from chassis.database import Database
from chassis.supervision import BackgroundTask
from services.order import batches, queue_repository, repository
from services.order.checkout import Checkout
from services.order.refunds import Refunds

INTERVAL_SECONDS = 1.0
"""How often the worker looks for orders that are due."""
RENEWAL_SECONDS = repository.LEASE.total_seconds() / 3
"""How often it renews the leases of the orders that it drives."""
ALARM_SECONDS = 60.0
"""How often it looks for orders that are stuck."""


class Worker:
    """Claims orders and drives them, or their refunds."""

    def __init__(self, database: Database, checkout: Checkout, refunds: Refunds) -> None:
        self._database = database
        self._checkout = checkout
        self._refunds = refunds
        self._log = log.logger()

    async def run(self) -> None:
        """Drive all orders that are due, batch after batch.

        Raises:
            errors.Unavailable: the database is down.
        """
        while order_ids := await self._claim():
            renewal = BackgroundTask(
                "lease_renewal", partial(self._renew, order_ids), RENEWAL_SECONDS
            )
            renewal.start()
            try:
                await self._drive(order_ids)
            finally:
                await renewal.stop()

    async def report_stuck(self) -> None:
        """Log an error if orders are stuck: an alarm that is repeated as long as there are any.

        Raises:
            errors.Unavailable: the database is down.
        """
        async with self._database.connection() as connection:
            count, oldest = await queue_repository.count_stuck(connection)
        if count:
            self._log.error("orders_stuck", orders=count, oldest=str(oldest))

    async def _claim(self) -> list[uuid.UUID]:
        async with self._database.connection() as connection:
            return await queue_repository.claim(connection, batches.MAX_ORDERS)

    async def _drive(self, order_ids: Sequence[uuid.UUID]) -> None:
        async with self._database.connection() as connection:
            orders = await repository.get_orders(connection, order_ids)
        driven = await self._checkout.drive(orders)
        if refunded := [order.order_id for order in orders if order.pending_refunds]:
            await self._refunds.drive(refunded)
        unfinished = sum(isinstance(result, errors.Error) for result in driven.values())
        self._log.info("orders_recovered", orders=len(orders), unfinished=unfinished)

    async def _renew(self, order_ids: Sequence[uuid.UUID]) -> None:
        async with self._database.connection() as connection:
            await queue_repository.renew(connection, order_ids)
