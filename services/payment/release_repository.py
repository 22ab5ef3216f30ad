"""The SQL of releases: when cancelled payments are cancelled at their providers again.

Callers own the connections and their transactions.
"""

import datetime as dt
from collections.abc import Sequence

from chassis.database import Connection, fetch
from services.payment.domain import Payment, Release

FIRST_RELEASE = dt.timedelta(minutes=1)
"""When a cancelled payment that may still be held is cancelled again; the interval then doubles."""


async def schedule(connection: Connection, payments: Sequence[Payment]) -> None:
    """Have cancelled payments, whose rows are locked, cancelled again in FIRST_RELEASE."""
    await connection.execute(
        "UPDATE payments SET release_time = now() + %s WHERE payment_id = ANY(%s)",
        (FIRST_RELEASE, [payment.payment_id for payment in payments]),
    )


async def claim(
    connection: Connection, provider: str, lease: dt.timedelta, limit: int
) -> list[Release]:
    """Claim at most `limit` payments of a provider that are due; they are due again after `lease`.

    Payments that another transaction is claiming are skipped.
    """
    return await fetch(
        connection,
        Release,
        "WITH due AS ("
        " SELECT payment_id FROM payments WHERE provider = %(provider)s AND release_time <= now()"
        " ORDER BY release_time LIMIT %(limit)s FOR UPDATE SKIP LOCKED"
        ") UPDATE payments SET release_time = now() + %(lease)s"
        " FROM due WHERE payments.payment_id = due.payment_id"
        " RETURNING payments.payment_id, provider_reference, update_time, release_time",
        {"provider": provider, "lease": lease, "limit": limit},
    )


async def reschedule(
    connection: Connection, releases: Sequence[Release], lifetime: dt.timedelta
) -> None:
    """Have payments cancelled again after twice the time since they were cancelled first.

    After `lifetime`, they are not cancelled again. Payments whose lease has ended are left as they
    are, because another process may have claimed them.
    """
    await connection.execute(
        "WITH leased AS ("
        " SELECT payment_id FROM payments"
        " JOIN unnest(%(ids)b::uuid[], %(lease_ends)b::timestamptz[])"
        " AS given (payment_id, lease_end) USING (payment_id)"
        " WHERE release_time = lease_end AND release_time > now()"
        " ORDER BY order_id FOR UPDATE OF payments"
        ") UPDATE payments SET release_time = CASE WHEN update_time > now() - %(lifetime)s"
        " THEN now() + (now() - update_time) END"
        " FROM leased WHERE payments.payment_id = leased.payment_id",
        {
            "ids": [release.payment_id for release in releases],
            "lease_ends": [release.lease_end for release in releases],
            "lifetime": lifetime,
        },
    )
