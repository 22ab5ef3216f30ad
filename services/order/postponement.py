"""Leaves orders that cannot go on to the worker, whoever has driven them."""

import uuid
from collections.abc import Mapping

from chassis import log
from chassis.database import Database
from services.order import queue_repository
from services.order.batches import TRANSIENT
from services.order.failure import Failure

_LOG = log.logger()


async def postpone(database: Database, failures: Mapping[uuid.UUID, Failure | None]) -> None:
    """End the leases of orders, and choose when they are due again.

    `failures` has why an order could not go on, or None if it only ran out of time.
    """
    if not failures:
        return
    try:
        async with database.connection() as connection:
            await queue_repository.postpone(connection, failures)
    except TRANSIENT as error:
        # The orders are due when their leases end.
        _LOG.warning("orders_not_postponed", orders=len(failures), reason=error.reason)
