"""Releases what is held for cancelled payments by calls that came late.

Where a cancelled intent can still be authorized, a call that was on its way may do so after the
cancellation, and the process that made the call may be gone. Such payments are therefore cancelled
again, at growing intervals, as long as the provider would let them be authorized. Nothing is
confirmed or captured here: that is for the order service, which pins the stock first.
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
"""How often payments to cancel again are looked for."""
MAX_PAYMENTS = 100
"""How many payments are cancelled at a time."""
CANCEL_SECONDS = 30.0
"""How long the provider may take for them."""
LEASE = dt.timedelta(minutes=1)
"""How long after it was claimed a payment is due again, if the outcome of its cancellation is
unknown. It exceeds the time that the provider and the database may take."""
LIFETIME = dt.timedelta(hours=6)
"""How long after its cancellation a payment may still be authorized: PayPal keeps orders that long
(https://developer.paypal.com/docs/api/orders/v2/)."""
MAX_AGE = dt.timedelta(days=30)
"""How long after its cancellation a payment is given up, if no outcome was ever known. Nothing is
held for it any more: an authorization of PayPal expires after 29 days."""


def make_tasks(database: Database, providers: Iterable[Provider]) -> list[BackgroundTask]:
    """Make a task for each provider that needs one, so that none stops or delays another.

    The payments of a provider that is switched off wait until it is on again.
    """
    return [
        BackgroundTask(
            f"{provider.name}_releases", Releases(database, provider).run, INTERVAL_SECONDS
        )
        for provider in providers
        if not provider.cancellation_is_final
    ]


class Releases:
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
        """Claim payments that are due; give up those that are too old."""
        async with self._database.connection() as connection:
            claimed = await release_repository.claim(
                connection, self._provider.name, LEASE, MAX_PAYMENTS
            )
            oldest = dt.datetime.now(dt.UTC) - MAX_AGE
            given_up = [each for each in claimed if each.cancel_time < oldest]
            for each in given_up:
                self._log.error("cancelled_payment_given_up", payment_id=str(each.payment_id))
            if given_up:
                await release_repository.reschedule(connection, given_up, dt.timedelta(0))
        return [each for each in claimed if each.cancel_time >= oldest]

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
