"""Notifications of payment providers: verified, received once, and never believed.

A webhook only says when to ask: it may be late, repeated, overtaken by another, or sent by anyone
who knows the secret. What is recorded is what the provider says of the payment when it is asked.
Nothing is confirmed or captured here, because the stock may not be pinned.
"""

import datetime as dt
from collections.abc import Mapping

from chassis import errors, log
from chassis.database import Connection, Database
from services.payment import domain, repository, webhook_repository
from services.payment.charges import Charges
from services.payment.domain import ChargeResult, Payment, RefundState
from services.payment.providers.provider import Notification, Provider
from services.payment.providers.registry import Providers

UNKNOWN_PAYMENT = "unknown_payment"
"""No payment of the shop has the reference. The other reasons are in `domain.find_contradiction`.
"""
REFUND_FAILED = "refund_failed"
"""A refund that is recorded as SUCCEEDED has failed: the customer has to be paid otherwise."""
LIFETIME = dt.timedelta(days=30)
"""How long a notification is remembered. Stripe and PayPal send it again for three days
(https://docs.stripe.com/webhooks, https://developer.paypal.com/api/rest/webhooks/)."""
QUARANTINE_LIFETIME = dt.timedelta(days=365)
"""How long a notification is kept for the staff: longer than a customer may dispute a payment,
which at PayPal is 180 days (Purchase Protection in its user agreement)."""
SWEEP_SECONDS = 3_600.0
"""How often old notifications are deleted."""


class Webhooks:
    """Records what providers say of the payments that their webhooks name."""

    def __init__(self, database: Database, providers: Providers, charges: Charges) -> None:
        self._database = database
        self._providers = providers
        self._charges = charges
        self._log = log.logger()

    async def handle(self, provider_name: str, headers: Mapping[str, str], body: bytes) -> None:
        """Receive a webhook; the names of the headers are in lower case.

        Raises:
            errors.NotFound: the provider is not switched on.
            errors.InvalidArgument: the signature is missing, invalid or too old.
            errors.Unavailable: the database or the provider did not respond, or a refund is under
                way that may be the one that has failed; the provider will send the webhook again.
        """
        provider = self._providers.find(provider_name)
        if provider is None:
            raise errors.NotFound("PROVIDER_NOT_FOUND", "There is no such payment provider.")
        notification = await provider.read_webhook(headers, body)
        if not notification.reference:
            return
        async with self._database.connection() as connection:
            if await webhook_repository.contains(connection, provider.name, notification):
                return
            payment = await repository.find_payment(
                connection, provider.name, notification.reference
            )
            refund_failed = payment is not None and await _has_failed_after_success(
                connection, payment, notification
            )
        if payment is None:
            await self._quarantine(provider, notification, UNKNOWN_PAYMENT)
        elif refund_failed:
            await self._quarantine(provider, notification, REFUND_FAILED)
        else:
            (result,) = await provider.find([notification.reference])
            await self._apply(provider, notification, payment, result)

    async def _apply(
        self,
        provider: Provider,
        notification: Notification,
        payment: Payment,
        result: ChargeResult,
    ) -> None:
        order_id = payment.order_id
        async with self._database.transaction() as connection:
            # The payment may have changed while the provider was asked.
            payments = await repository.get_payments_of_orders(connection, [order_id], lock=True)
            reason = domain.find_contradiction(payments[order_id], result)
            new = await webhook_repository.insert(connection, provider.name, notification, reason)
            if new and not reason:
                await self._charges.settle(connection, order_id, result)
            if new and reason:
                self._warn(provider, notification, reason)

    async def _quarantine(
        self, provider: Provider, notification: Notification, reason: str
    ) -> None:
        async with self._database.transaction() as connection:
            if await webhook_repository.insert(connection, provider.name, notification, reason):
                self._warn(provider, notification, reason)

    def _warn(self, provider: Provider, notification: Notification, reason: str) -> None:
        """Log a notification that needs the staff, before the transaction that keeps it commits.

        If the process ends between the two, it is logged again when the provider sends it again.
        """
        self._log.error(
            "webhook_quarantined",
            provider=provider.name,
            event_id=notification.event_id,
            type=notification.type,
            reference=notification.reference,
            failed_refund=notification.failed_refund,
            reason=reason,
        )


async def _has_failed_after_success(
    connection: Connection, payment: Payment, notification: Notification
) -> bool:
    """Return whether a refund has failed that is recorded as SUCCEEDED.

    Raises:
        errors.Unavailable: the success of that refund may not be recorded yet.
    """
    if not notification.failed_refund:
        return False
    state = await repository.find_refund_state(
        connection, payment.payment_id, notification.failed_refund
    )
    if state is RefundState.PENDING:
        raise errors.Unavailable("REFUND_UNDER_WAY", "A refund of the payment is under way.")
    return state is RefundState.SUCCEEDED


async def sweep(database: Database) -> None:
    """Delete notifications after LIFETIME, and quarantined ones after QUARANTINE_LIFETIME.

    Raises:
        errors.Unavailable: the database is down.
    """
    await webhook_repository.delete_old(database, LIFETIME, QUARANTINE_LIFETIME)
