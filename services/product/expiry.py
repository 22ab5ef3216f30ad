"""The sweep: a background task that releases expired reservations."""

from chassis import log
from chassis.database import Database
from services.product import reservation_steps

INTERVAL_SECONDS = 2.0

_LOG = log.logger()


async def sweep(database: Database) -> None:
    """Release all expired reservations, and log their number.

    Any number of processes may sweep at once: each skips rows that another one has locked.
    """
    released = await release_expired(database)
    if released:
        _LOG.info("reservations_expired", count=released)


async def release_expired(database: Database) -> int:
    """Release all expired reservations, in transactions of bounded size; return their number."""
    total = 0
    while True:
        async with database.transaction() as connection:
            released = await reservation_steps.release_expired(connection)
        total += released
        if released < reservation_steps.MAX_EXPIRED:
            return total
