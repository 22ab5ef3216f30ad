"""The sweep: stock that an order reserved and never pinned goes back on the shelf in time."""

import asyncio

from chassis import errors, log
from chassis.database import Database
from services.product import protocol

INTERVAL_SECONDS = 2.0


async def sweep(database: Database, draining: asyncio.Event) -> None:
    """Release expired reservations every few seconds until `draining` is set; log failures.

    Any number of processes may do this at once: each skips what another one has locked.
    """
    logger = log.logger()
    while not await _wait(draining):
        try:
            released = await release_expired(database)
        except errors.Error as error:
            logger.warning("sweep_failed", reason=error.reason, cause=str(error.__cause__))
            continue
        if released:
            logger.info("reservations_expired", count=released)


async def release_expired(database: Database) -> int:
    """Release all that has expired, in transactions of bounded size; return how many orders."""
    total = 0
    while True:
        async with database.transaction() as connection:
            released = await protocol.release_expired(connection)
        total += released
        if released < protocol.MAX_EXPIRED:
            return total


async def _wait(draining: asyncio.Event) -> bool:
    """Wait for the interval to pass or for `draining`; tell whether that is set."""
    try:
        await asyncio.wait_for(draining.wait(), INTERVAL_SECONDS)
    except TimeoutError:
        return False
    return True
