"""The SQL of recovery: active orders are a queue, whose items are leased to one process at a time.

An order is *stuck* if it has not changed for STUCK_AFTER, although it is active and does not wait
for its customer, or has pending refunds and they do not wait for a bank: staff can list it, and an
alarm tells them to. It is still tried, unless it is *parked*: one that defects made fail all that
time is tried again only after `redrive`.

Callers own the connections and their transactions.
"""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from chassis import errors
from chassis.database import Connection, fetch
from services.order.failure import REFUND_PENDING, Failure
from services.order.repository import LEASE

STUCK_AFTER = dt.timedelta(minutes=15)
"""When an order that does not change is stuck, and one that fails by defects is parked."""
REFUND_STUCK_AFTER = dt.timedelta(days=14)
"""When an order is stuck whose refund waits for a bank, which may take 10 business days
(https://docs.stripe.com/refunds)."""
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
    SELECT orders.order_id, unfinished.failure, unfinished.is_defect
    FROM unnest(%(order_ids)b::uuid[], %(failures)b::text[], %(defects)b::boolean[])
        AS unfinished (order_id, failure, is_defect)
    JOIN orders USING (order_id) WHERE next_at < 'infinity'
    ORDER BY order_id FOR UPDATE OF orders
)
UPDATE orders SET
    attempts = attempts + 1, failure = coalesce(locked.failure, orders.failure), lease_until = NULL,
    failing_since = CASE WHEN locked.failure IS NULL THEN failing_since
        WHEN is_defect THEN coalesce(failing_since, now()) END,
    next_at = CASE WHEN is_defect AND failing_since <= now() - %(stuck_after)s THEN 'infinity'
        ELSE now() + random() * least(2 ^ least(attempts, 10), %(max_backoff)s)
            * interval '1 second'
    END
FROM locked WHERE orders.order_id = locked.order_id
"""

# Reads the index of next_at, which has only orders under way. MATERIALIZED keeps PostgreSQL from
# walking the index of order ids instead, which would spare the sort but has all orders of the shop.
_STUCK: LiteralString = """
WITH stuck AS MATERIALIZED (
    SELECT order_id, coalesce(failure, '') AS failure, next_at = 'infinity' AS is_parked FROM orders
    WHERE next_at IS NOT NULL AND (
        next_at = 'infinity'
        OR update_time <= now() - CASE failure WHEN %(pending)s THEN %(bank)s ELSE %(others)s END
        AND (action_expire_time IS NULL OR action_expire_time <= now())
    )
)
"""


_LIMITS = {
    "pending": REFUND_PENDING.description,
    "bank": REFUND_STUCK_AFTER,
    "others": STUCK_AFTER,
}


@dataclass(frozen=True, slots=True)
class StuckOrder:
    """An order that is stuck, and the description of its last failure, if there was one."""

    order_id: uuid.UUID
    failure: str
    is_parked: bool


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


async def postpone(connection: Connection, failures: Mapping[uuid.UUID, Failure | None]) -> None:
    """End the leases of active orders that have to wait, and choose when they are due again.

    An order that failed by defects for STUCK_AFTER is parked; any other failure resets that time.
    An order without a failure, which was only not finished in time, keeps the one from before.
    """
    await connection.execute(
        _POSTPONE,
        {
            "order_ids": list(failures),
            "failures": [failure and failure.description for failure in failures.values()],
            "defects": [bool(failure and failure.is_defect) for failure in failures.values()],
            "stuck_after": STUCK_AFTER,
            "max_backoff": MAX_BACKOFF_SECONDS,
        },
    )


async def list_stuck(
    connection: Connection, after: uuid.UUID | None, limit: int
) -> list[StuckOrder]:
    """List at most `limit` orders that are stuck and follow an id, oldest first."""
    return await fetch(
        connection,
        StuckOrder,
        f"{_STUCK} SELECT order_id, failure, is_parked FROM stuck"
        " WHERE %(after)s::uuid IS NULL OR order_id > %(after)s ORDER BY order_id LIMIT %(limit)s",
        {"after": after, "limit": limit, **_LIMITS},
    )


async def count_stuck(connection: Connection) -> tuple[int, uuid.UUID | None]:
    """Return how many orders are stuck, and the oldest one, if there is any."""
    cursor = await connection.execute(
        f"{_STUCK} SELECT count(*) OVER (), order_id FROM stuck ORDER BY order_id LIMIT 1",
        _LIMITS,
    )
    return await cursor.fetchone() or (0, None)


async def redrive(connection: Connection, order_id: uuid.UUID) -> bool:
    """Make an order that is active or has pending refunds due at once; return False for any other.

    Raises:
        errors.NotFound: the order does not exist.
    """
    cursor = await connection.execute(
        "UPDATE orders SET attempts = 0, lease_until = NULL, failing_since = NULL, failure = NULL,"
        " next_at = CASE WHEN next_at IS NOT NULL THEN now() END WHERE order_id = %s"
        " RETURNING next_at IS NOT NULL",
        (order_id,),
    )
    found = await cursor.fetchone()
    if found is None:
        raise errors.not_found("order", order_id)
    return bool(found[0])
