"""The SQL of recovery: active orders are a queue, whose items are leased to one process at a time.

Callers own the connections and their transactions.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import LiteralString

from chassis import errors
from chassis.database import Connection
from services.order.repository import LEASE

STUCK_AFTER = dt.timedelta(minutes=15)
"""How long an order may fail by defects before it is stuck; a step or an outage begins anew."""
MAX_BACKOFF_SECONDS = 30
"""The longest pause between attempts; pauses are random, and grow to this."""

# Orders that another process locks are left to it.
_CLAIM: LiteralString = """
WITH due AS (
    SELECT order_id FROM orders
    WHERE next_at <= now() AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY next_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE orders SET lease_until = now() + %(lease)s FROM due WHERE orders.order_id = due.order_id
RETURNING orders.order_id
"""

_POSTPONE: LiteralString = """
WITH locked AS (
    SELECT orders.order_id, unfinished.failure
    FROM unnest(%(order_ids)b::uuid[], %(failures)b::text[]) AS unfinished (order_id, failure)
    JOIN orders USING (order_id) WHERE next_at < 'infinity'
    ORDER BY order_id FOR UPDATE OF orders
)
UPDATE orders SET
    attempts = attempts + 1, failure = locked.failure, lease_until = NULL,
    failing_since = CASE WHEN locked.failure IS NOT NULL THEN coalesce(failing_since, now()) END,
    next_at = CASE WHEN locked.failure IS NOT NULL AND failing_since <= now() - %(stuck_after)s
        THEN 'infinity'
        ELSE now() + random() * least(2 ^ least(attempts, 10), %(max_backoff)s)
            * interval '1 second'
    END
FROM locked WHERE orders.order_id = locked.order_id
"""


async def claim(connection: Connection, limit: int) -> list[uuid.UUID]:
    """Take leases of at most `limit` orders that are due and that nobody drives; return their ids.

    The orders that have waited longest come first.
    """
    cursor = await connection.execute(_CLAIM, {"limit": limit, "lease": LEASE})
    return [order_id for (order_id,) in await cursor.fetchall()]


async def renew(connection: Connection, order_ids: Sequence[uuid.UUID]) -> None:
    """Extend the leases of those orders that have not been finished or postponed."""
    await connection.execute(
        "UPDATE orders SET lease_until = now() + %s FROM ("
        "SELECT order_id FROM orders WHERE order_id = ANY(%s) AND lease_until IS NOT NULL"
        " ORDER BY order_id FOR UPDATE) AS locked WHERE orders.order_id = locked.order_id",
        (LEASE, list(order_ids)),
    )


async def postpone(connection: Connection, failures: Mapping[uuid.UUID, str | None]) -> None:
    """End the leases of active orders that have to wait, and choose when they are due again.

    `failures` has the defect of an order, or None if a service was down. An order that failed by
    defects for STUCK_AFTER is stuck: it is not due before `redrive`.
    """
    await connection.execute(
        _POSTPONE,
        {
            "order_ids": list(failures),
            "failures": list(failures.values()),
            "stuck_after": STUCK_AFTER,
            "max_backoff": MAX_BACKOFF_SECONDS,
        },
    )


async def list_stuck(
    connection: Connection, after: uuid.UUID | None, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """List the ids and defects of at most `limit` orders that are stuck, oldest first."""
    cursor = await connection.execute(
        "SELECT order_id, failure FROM orders WHERE next_at = 'infinity'"
        " AND (%(after)s::uuid IS NULL OR order_id > %(after)s) ORDER BY order_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return await cursor.fetchall()


async def redrive(connection: Connection, order_id: uuid.UUID) -> None:
    """Make an active order due at once; one that is final stays as it is.

    Raises:
        errors.NotFound: the order does not exist.
    """
    cursor = await connection.execute(
        "UPDATE orders SET attempts = 0, lease_until = NULL, failing_since = NULL, failure = NULL,"
        " next_at = CASE WHEN next_at IS NOT NULL THEN now() END WHERE order_id = %s",
        (order_id,),
    )
    if cursor.rowcount == 0:
        raise errors.not_found("order", order_id)
