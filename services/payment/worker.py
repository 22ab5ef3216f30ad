"""Releases what is held for cancelled payments by calls that came late.

Where a cancelled intent can still be authorized, a call that was on its way may do so after the
cancellation, and the process that made the call may be gone. The worker therefore cancels such
payments again, at growing intervals, as long as the provider would let them be authorized. It never
confirms or captures: that is for the order service, which pins the stock first.
"""

import datetime as dt
from collections.abc import Sequence

from chassis import log
from chassis.database import Database
from services.payment import repository
from services.payment.domain import Payment, State
from services.payment.providers.registry import Providers

INTERVAL_SECONDS = 10.0
"""How often the worker looks for payments to cancel again."""
MAX_PAYMENTS = 100
"""How many payments it cancels at a time."""
LAST_RELEASE = dt.timedelta(hours=6)
"""How long after its cancellation a payment may still be authorized: PayPal keeps orders that long
(https://developer.paypal.com/docs/api/orders/v2/)."""


class Worker:
    """Cancels payments again, in any number of processes at once."""

    def __init__(self, database: Database, providers: Providers) -> None:
        self._database = database
        self._providers = providers
        self._log = log.logger()

    async def run(self) -> None:
        """Cancel all payments that are due.

        Raises:
            errors.Unavailable: the database is down.
        """
        while payments := await self._claim():
            for name in {payment.provider for payment in payments}:
                await self._release(name, [each for each in payments if each.provider == name])

    async def _claim(self) -> list[Payment]:
        async with self._database.connection() as connection:
            return await repository.claim_releases(connection, LAST_RELEASE, MAX_PAYMENTS)

    async def _release(self, provider: str, payments: Sequence[Payment]) -> None:
        references = [payment.provider_reference for payment in payments]
        results = await self._providers.get(provider).cancel(references)
        for payment, result in zip(payments, results, strict=True):
            if result.state is State.SUCCEEDED:
                # No sequence of calls should capture a payment that was cancelled.
                self._log.error("cancelled_payment_charged", payment_id=str(payment.payment_id))
