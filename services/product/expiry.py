"""The sweep: stock that an order reserved and never pinned goes back on the shelf in time."""

from chassis import log
from chassis.database import Database
from services.product import protocol

INTERVAL_SECONDS = 2.0

_LOG = log.logger()


async def sweep(database: Database) -> None:
    """Release all expired reservations, and log of how many orders.

    Any number of processes may do this at once: each skips rows that another one has locked.
    """
    released = await release_expired(database)
    if released:
        _LOG.info("reservations_expired", count=released)


async def release_expired(database: Database) -> int:
    """Release all that has expired, in transactions of bounded size; return how many orders."""
    total = 0
    while True:
        async with database.transaction() as connection:
            released = await protocol.release_expired(connection)
        total += released
        if released < protocol.MAX_EXPIRED:
            return total
