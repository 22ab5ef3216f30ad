"""The SQL of the inbox of webhooks.

Callers own the connections and their transactions, except for `delete_old`.
"""

import datetime as dt
from typing import LiteralString

from chassis import sweeping
from chassis.database import Connection, Database
from services.payment.providers.provider import Notification


async def contains(connection: Connection, provider: str, notification: Notification) -> bool:
    """Return whether a notification was received before."""
    cursor = await connection.execute(
        "SELECT FROM webhook_inbox WHERE provider = %s AND event_id = %s",
        (provider, notification.event_id),
    )
    return await cursor.fetchone() is not None


async def insert(
    connection: Connection, provider: str, notification: Notification, quarantine_reason: str
) -> bool:
    """Insert a notification; return False if it was received before.

    It waits for a transaction that inserts the same one. The reason is empty for a notification
    that is applied.
    """
    cursor = await connection.execute(
        "INSERT INTO webhook_inbox (provider, event_id, type, reference, quarantine_reason)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            provider,
            notification.event_id,
            notification.type,
            notification.reference,
            quarantine_reason,
        ),
    )
    return cursor.rowcount == 1


async def delete_old(
    database: Database, lifetime: dt.timedelta, quarantine_lifetime: dt.timedelta
) -> None:
    """Delete notifications that are older than their lifetimes."""
    old: LiteralString = (
        "receive_time < now() - CASE quarantine_reason"
        " WHEN '' THEN %(lifetime)s::interval ELSE %(quarantine_lifetime)s::interval END"
    )
    parameters = {"lifetime": lifetime, "quarantine_lifetime": quarantine_lifetime}
    await sweeping.sweep(database, "webhook_inbox", old, parameters)
