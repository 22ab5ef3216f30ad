"""Releases what is held for cancelled payments by calls that came late.

Where a cancelled intent can still be authorized, a call that was on its way may do so after the
cancellation, and the process that made the call may be gone. A worker therefore cancels such
payments again, at growing intervals, as long as the provider would let them be authorized. It never
confirms or captures: that is for the order service, which pins the stock first.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from chassis import call_context, log
from chassis.database import Database
from chassis.supervision import BackgroundTask
from services.payment import domain, release_repository
from services.payment.domain import ChargeResult, Release, State
from services.payment.providers.provider import Provider

INTERVAL_SECONDS = 10.0
"""How often a worker looks for payments to cancel again."""
MAX_PAYMENTS = 100
"""How many payments it cancels at a time."""
CANCEL_SECONDS = 30.0
"""How long the provider may take for them."""
LEASE = dt.timedelta(minutes=1)
"""When a payment is due again whose cancellation has no known outcome. It exceeds the time that the
provider and the database may take."""
LIFETIME = dt.timedelta(hours=6)
"""How long after its cancellation a payment may still be authorized: PayPal keeps orders that long
(https://developer.paypal.com/docs/api/orders/v2/)."""


def make_tasks(database: Database, providers: Iterable[Provider]) -> list[BackgroundTask]:
    """Make a task for each provider that needs one, so that none stops or delays another.

    The payments of a provider that is switched off wait until it is on again.
    """
    return [
        BackgroundTask(
            f"{provider.name}_releases", Worker(database, provider).run, INTERVAL_SECONDS
        )
        for provider in providers
        if not provider.cancels_finally
    ]


class Worker:
    """Cancels the payments of one provider again, in any number of processes at once."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider
        self._log = log.logger()

    async def run(self) -> None:
        """Cancel all payments that are due.

        Raises:
            errors.Unavailable: the database or the provider is down. Payments that were claimed are
                due again after LEASE.
        """
        while releases := await self._claim():
            with call_context.time_limit(CANCEL_SECONDS):
                results = await self._provider.cancel([each.reference for each in releases])
            await self._record(releases, results)

    async def _claim(self) -> list[Release]:
        async with self._database.connection() as connection:
            return await release_repository.claim(
                connection, self._provider.name, LEASE, MAX_PAYMENTS
            )

    async def _record(self, releases: Sequence[Release], results: Sequence[ChargeResult]) -> None:
        """Schedule the next cancellations of those payments whose state is known."""
        states = [(each, result.state) for each, result in zip(releases, results, strict=True)]
        charged = [each for each, state in states if state is State.SUCCEEDED]
        for each in charged:
            # No sequence of calls should capture a payment that was cancelled.
            self._log.error("cancelled_payment_charged", payment_id=str(each.payment_id))
        released = [
            each
            for each, state in states
            if state not in domain.UNSETTLED and state is not State.SUCCEEDED
        ]
        async with self._database.connection() as connection:
            await release_repository.reschedule(connection, released, LIFETIME)
            # Nothing is left to release, and the error is logged once.
            await release_repository.reschedule(connection, charged, dt.timedelta(0))
