"""The SQL of orders. Callers own the connections and their transactions.

The SQL of recovery is in `queue_repository`, that of events in `event_repository`. How the columns
map to orders is in `order_rows`.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import LiteralString

from chassis import errors
from chassis.database import Connection, fetch
from services.order import order_rows
from services.order.domain import ACTIVE, NewOrder, Order, OrderKey, PaymentAction
from services.order.event import Cause
from services.order.placement import hash_request

LEASE = dt.timedelta(seconds=30)
"""How long an order is left to the process that drives it, from its last step on."""
ACTION_LIFETIME = dt.timedelta(minutes=10)
"""How long a customer may take to approve a payment: reservations last longer."""

# Lists show orders by their ids, which therefore ascend in request order: they are made by a CTE,
# which PostgreSQL evaluates once. The rows are inserted in the order of their keys, so that two
# transactions never wait for each other.
_INSERT: LiteralString = """
WITH new AS MATERIALIZED (
    SELECT uuidv7() AS order_id, * FROM unnest(
        %(user_ids)b::uuid[], %(idempotency_keys)b::text[], %(request_hashes)b::bytea[],
        %(payment_methods)b::text[], %(manual_captures)b::boolean[]
    ) AS new (user_id, idempotency_key, request_hash, payment_method, manual_capture)
), accepted AS (
    INSERT INTO orders
        (order_id, user_id, idempotency_key, request_hash, payment_method, manual_capture,
         lease_until)
    SELECT new.*, now() + %(lease)s FROM new ORDER BY user_id, idempotency_key
    ON CONFLICT (user_id, idempotency_key) DO NOTHING
    RETURNING *
), recorded AS (
    INSERT INTO order_events (order_id, version, state, cause)
    SELECT order_id, version, state, %(cause)s FROM accepted ORDER BY order_id
)
SELECT order_id, user_id, idempotency_key, request_hash, payment_method, create_time, update_time,
    manual_capture
FROM accepted
"""

# Every transaction locks rows in the order of their ids, which prevents deadlocks. The second of
# two finds another version once it has the lock, and leaves that order out. A renewal shows a
# customer another way to approve the payment, such as another URL: a provider may have one for each
# call.
_SAVE: LiteralString = """
WITH locked AS (
    SELECT changed.*, redirect_url IS NOT NULL AND action_expire_time IS NOT NULL AS is_renewal
    FROM unnest(
        %(order_ids)b::uuid[], %(versions)b::integer[], %(states)b::text[],
        %(currency_codes)b::text[], %(totals_minor)b::bigint[], %(payment_ids)b::uuid[],
        %(reasons)b::text[], %(messages)b::text[], %(metadatas)s::jsonb[], %(prices)b::text[],
        %(redirect_urls)b::text[], %(client_secrets)b::text[]
    ) AS changed (order_id, version, state, currency_code, total_minor, payment_id, refusal_reason,
                 refusal_message, refusal_metadata, prices, redirect_url, client_secret)
    JOIN orders USING (order_id, version)
    ORDER BY order_id FOR UPDATE OF orders
), saved AS (
    UPDATE orders SET
        state = locked.state, currency_code = locked.currency_code,
        version = orders.version + CASE WHEN is_renewal THEN 0 ELSE 1 END,
        total_minor = locked.total_minor, payment_id = locked.payment_id,
        refusal_reason = locked.refusal_reason, refusal_message = locked.refusal_message,
        refusal_metadata = locked.refusal_metadata,
        attempts = CASE WHEN is_renewal THEN attempts ELSE 0 END,
        action_redirect_url = locked.redirect_url, action_client_secret = locked.client_secret,
        action_expire_time = CASE WHEN locked.redirect_url IS NOT NULL
            THEN coalesce(orders.action_expire_time, now() + %(action_lifetime)s) END,
        failing_since = NULL, failure = NULL,
        -- Unchanged as a rule, which spares the indexes; at once if the order was postponed.
        -- An order that is shipped keeps what its pending refunds need.
        next_at = CASE WHEN locked.state = ANY(%(active)s) OR pending_refunds > 0
            THEN least(orders.next_at, now()) END,
        lease_until = CASE WHEN locked.state = ANY(%(active)s) THEN now() + %(lease)s
            WHEN pending_refunds > 0 THEN orders.lease_until END,
        update_time = now()
    FROM locked WHERE orders.order_id = locked.order_id
    RETURNING orders.order_id, orders.state, orders.version, orders.refusal_reason,
        orders.update_time, orders.action_expire_time, prices, is_renewal
), priced AS (
    UPDATE order_lines SET unit_price_minor = priced.unit_price_minor
    FROM saved, unnest(saved.prices::bigint[]) WITH ORDINALITY
        AS priced (unit_price_minor, line_number)
    WHERE order_lines.order_id = saved.order_id
    AND order_lines.line_number = priced.line_number
), recorded AS (
    INSERT INTO order_events (order_id, version, state, cause, details)
    SELECT order_id, version, state, %(cause)s,
        jsonb_strip_nulls(jsonb_build_object(
            'refusal_reason', refusal_reason,
            'action_required', CASE WHEN action_expire_time IS NOT NULL THEN true END
        ))
    FROM saved WHERE NOT is_renewal ORDER BY order_id
)
SELECT order_id, version, update_time, action_expire_time FROM saved
"""
_OWNED: LiteralString = """
orders.order_id = %(order_id)s AND (%(owner)s::uuid IS NULL OR orders.user_id = %(owner)s)
"""


async def accept_orders(
    connection: Connection, orders: Sequence[NewOrder]
) -> tuple[dict[OrderKey, Order], dict[OrderKey, Order]]:
    """Insert those orders whose keys are new; return the new and the existing ones, by key.

    No key may be repeated. The orders are accepted when the transaction commits.
    """
    if not orders:
        return {}, {}
    accepted = await _insert_orders(connection, orders)
    await _insert_lines(connection, accepted.values())
    existing = [order.key for order in orders if order.key not in accepted]
    # Unlike the insert, a new statement sees the orders that concurrent transactions inserted.
    return accepted, await find_orders(connection, existing) if existing else {}


async def find_orders(connection: Connection, keys: Sequence[OrderKey]) -> dict[OrderKey, Order]:
    """Get the existing orders by their keys."""
    found = await fetch(
        connection,
        order_rows.to_order,
        f"{order_rows.SELECT} WHERE (user_id, idempotency_key)"
        " IN (SELECT * FROM unnest(%b::uuid[], %b::text[]))",
        ([user_id for user_id, _ in keys], [idempotency_key for _, idempotency_key in keys]),
    )
    return {order.key: order for order in found}


async def get_order(
    connection: Connection,
    order_id: uuid.UUID,
    owner: uuid.UUID | None = None,
    *,
    lock: bool = False,
) -> Order:
    """Get an order; `lock` locks the row until the transaction ends.

    If an `owner` is given, the orders of others do not exist.

    Raises:
        errors.NotFound: the order does not exist.
    """
    found = await fetch(
        connection,
        order_rows.to_order,
        f"{order_rows.SELECT} WHERE {_OWNED}" + (" FOR UPDATE OF orders" if lock else ""),
        {"order_id": order_id, "owner": owner},
    )
    if not found:
        raise errors.not_found("order", order_id)
    return found[0]


async def check_order(connection: Connection, order_id: uuid.UUID, owner: uuid.UUID | None) -> None:
    """Check that an order exists, as for `get_order`.

    Raises:
        errors.NotFound: it does not.
    """
    query: LiteralString = f"SELECT FROM orders WHERE {_OWNED}"
    cursor = await connection.execute(query, {"order_id": order_id, "owner": owner})
    if cursor.rowcount == 0:
        raise errors.not_found("order", order_id)


async def get_orders(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[Order]:
    """Get those of the orders that exist, newest first."""
    return await fetch(
        connection,
        order_rows.to_order,
        f"{order_rows.SELECT} WHERE orders.order_id = ANY(%s) ORDER BY orders.order_id DESC",
        (list(order_ids),),
    )


async def list_sizes(
    connection: Connection, user_id: uuid.UUID, before: uuid.UUID | None, limit: int
) -> list[tuple[uuid.UUID, int]]:
    """List the ids and numbers of lines of at most `limit` orders of a user, newest first.

    `before` is the last id of the previous page.
    """
    cursor = await connection.execute(
        "SELECT order_id, (SELECT count(*) FROM order_lines"
        " WHERE order_lines.order_id = orders.order_id)"
        " FROM orders WHERE user_id = %(user_id)s"
        " AND (%(before)s::uuid IS NULL OR order_id < %(before)s)"
        " ORDER BY order_id DESC LIMIT %(limit)s",
        {"user_id": user_id, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def save_orders(connection: Connection, orders: Sequence[Order], cause: Cause) -> list[Order]:
    """Save those orders that were not changed since they were read; return them as saved.

    Also writes the prices of orders that become PAYING, and an event for each order, unless it
    waits for its customer already: another URL or secret is no change to record. It is one
    statement, which needs no transaction around it.
    """
    cursor = await connection.execute(
        _SAVE,
        {
            **order_rows.to_parameters(orders),
            "cause": cause,
            "action_lifetime": ACTION_LIFETIME,
            "active": [str(state) for state in ACTIVE],
            "lease": LEASE,
        },
    )
    changed = {order.order_id: order for order in orders}
    return [
        replace(
            changed[order_id],
            version=version,
            update_time=update_time,
            action=_set_expiry(changed[order_id].action, expire_time),
        )
        for order_id, version, update_time, expire_time in await cursor.fetchall()
    ]


async def _insert_orders(
    connection: Connection, orders: Sequence[NewOrder]
) -> dict[OrderKey, Order]:
    cursor = await connection.execute(
        _INSERT,
        {
            "user_ids": [order.user_id for order in orders],
            "idempotency_keys": [order.idempotency_key for order in orders],
            "request_hashes": [hash_request(order) for order in orders],
            "payment_methods": [order.payment_method for order in orders],
            "manual_captures": [order.manual_capture for order in orders],
            "lease": LEASE,
            "cause": Cause.CLIENT,
        },
    )
    rows = await cursor.fetchall()
    lines = {order.key: order.lines for order in orders}
    return {
        (user_id, key): Order(
            order_id,
            user_id,
            key,
            request_hash,
            method,
            created,
            updated,
            lines[user_id, key],
            manual_capture=manual_capture,
        )
        for order_id, user_id, key, request_hash, method, created, updated, manual_capture in rows
    }


async def _insert_lines(connection: Connection, orders: Iterable[Order]) -> None:
    rows = [
        (order.order_id, number, line.product_id, line.quantity)
        for order in orders
        for number, line in enumerate(order.lines, start=1)
    ]
    if rows:
        await connection.execute(
            "INSERT INTO order_lines (order_id, line_number, product_id, quantity)"
            " SELECT * FROM unnest(%b::uuid[], %b::integer[], %b::uuid[], %b::integer[])",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _set_expiry(
    action: PaymentAction | None, expire_time: dt.datetime | None
) -> PaymentAction | None:
    return action and replace(action, expire_time=expire_time)
