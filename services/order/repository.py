"""All the SQL of the order service. Takes a connection, returns domain objects, never commits."""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import LiteralString

from psycopg.abc import Params
from psycopg.rows import args_row
from psycopg.types.json import Jsonb

from chassis.database import Connection
from chassis.money import Amount
from services.order.domain import (
    ACTIVE,
    ANNOUNCED,
    Key,
    Line,
    NewOrder,
    Order,
    Refusal,
    State,
    order_not_found,
)
from services.order.placement import hash_request

LEASE = dt.timedelta(seconds=30)
"""For how long an order is left to whoever took or changed it last."""

_SELECT: LiteralString = (
    "SELECT orders.order_id, user_id, idempotency_key, request_hash, payment_method,"
    " create_time, update_time, product_ids, quantities, prices_minor, state, version,"
    " total_minor, currency_code, payment_id, refusal_reason, refusal_message, refusal_metadata,"
    " cancel_requested FROM orders JOIN LATERAL ("
    " SELECT array_agg(product_id ORDER BY line_number) AS product_ids,"
    " array_agg(quantity ORDER BY line_number) AS quantities,"
    " array_agg(unit_price_minor ORDER BY line_number) AS prices_minor"
    " FROM order_lines WHERE order_lines.order_id = orders.order_id) AS lines ON true"
)

# Lists show orders by their ids, which therefore ascend in request order: they are made by a CTE,
# which PostgreSQL evaluates once. The rows are inserted in the order of their keys, so that two
# transactions never wait for each other.
_INSERT: LiteralString = """
WITH wanted AS MATERIALIZED (
    SELECT uuidv7() AS order_id, * FROM unnest(
        %(user_ids)s::uuid[], %(idempotency_keys)s::text[], %(request_hashes)s::bytea[],
        %(payment_methods)s::text[]
    ) AS wanted (user_id, idempotency_key, request_hash, payment_method)
)
INSERT INTO orders (order_id, user_id, idempotency_key, request_hash, payment_method, lease_until)
SELECT wanted.*, now() + %(lease)s FROM wanted ORDER BY user_id, idempotency_key
ON CONFLICT (user_id, idempotency_key) DO NOTHING
RETURNING order_id, user_id, idempotency_key, request_hash, payment_method, create_time, update_time
"""

# Rows are locked in one order by everybody, so that two batches never wait for each other; whoever
# comes second finds another version when the lock is free, and leaves that order out.
_SAVE: LiteralString = """
WITH locked AS (
    SELECT wanted.* FROM unnest(
        %(order_ids)s::uuid[], %(versions)s::integer[], %(states)s::text[],
        %(currency_codes)s::text[], %(totals_minor)s::bigint[], %(payment_ids)s::uuid[],
        %(reasons)s::text[], %(messages)s::text[], %(metadatas)s::jsonb[], %(cancels)s::boolean[],
        %(prices)s::text[]
    ) AS wanted (order_id, version, state, currency_code, total_minor, payment_id, refusal_reason,
                 refusal_message, refusal_metadata, cancel_requested, prices)
    JOIN orders USING (order_id, version)
    ORDER BY order_id FOR UPDATE OF orders
), saved AS (
    UPDATE orders SET
        state = locked.state, version = orders.version + 1, currency_code = locked.currency_code,
        total_minor = locked.total_minor, payment_id = locked.payment_id,
        refusal_reason = locked.refusal_reason, refusal_message = locked.refusal_message,
        refusal_metadata = locked.refusal_metadata, cancel_requested = locked.cancel_requested,
        next_at = CASE WHEN locked.state = ANY(%(active)s) THEN orders.next_at END,
        lease_until = CASE WHEN locked.state = ANY(%(active)s) THEN now() + %(lease)s END,
        update_time = now()
    FROM locked WHERE orders.order_id = locked.order_id
    RETURNING orders.order_id, orders.state, orders.version, orders.update_time, locked.prices
), priced AS (
    UPDATE order_lines SET unit_price_minor = priced.unit_price_minor
    FROM saved, unnest(saved.prices::bigint[]) WITH ORDINALITY
        AS priced (unit_price_minor, line_number)
    WHERE order_lines.order_id = saved.order_id
    AND order_lines.line_number = priced.line_number
), announced AS (
    INSERT INTO outbox (order_id, state)
    SELECT order_id, state FROM saved WHERE state = ANY(%(announced)s)
)
SELECT order_id, version, update_time FROM saved
"""


async def accept_orders(connection: Connection, wanted: Sequence[NewOrder]) -> dict[Key, Order]:
    """Insert the orders whose keys are free; return the orders that hold the keys then.

    No key may be there twice. With the commit the orders are accepted.
    """
    accepted = await _insert_orders(connection, wanted)
    await _insert_lines(connection, accepted.values())
    taken = [order.key for order in wanted if order.key not in accepted]
    if taken:
        # A statement of its own: its snapshot has the orders that the insert collided with.
        accepted |= await find_orders(connection, taken)
    return accepted


async def find_orders(connection: Connection, keys: Sequence[Key]) -> dict[Key, Order]:
    """Find those of the orders that exist by users and idempotency keys."""
    found = await _fetch_orders(
        connection,
        f"{_SELECT} WHERE (user_id, idempotency_key)"
        " IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))",
        ([user_id for user_id, _ in keys], [idempotency_key for _, idempotency_key in keys]),
    )
    return {order.key: order for order in found}


async def get_order(connection: Connection, order_id: uuid.UUID, *, lock: bool = False) -> Order:
    """Get an order.

    Raises:
        errors.NotFound: there is no such order.
    """
    found = await get_orders(connection, [order_id], lock=lock)
    if not found:
        raise order_not_found(order_id)
    return found[0]


async def get_orders(
    connection: Connection, order_ids: Sequence[uuid.UUID], *, lock: bool = False
) -> list[Order]:
    """Get those of the orders that exist, newest first; `lock` keeps them for the transaction."""
    return await _fetch_orders(
        connection,
        f"{_SELECT} WHERE orders.order_id = ANY(%s) ORDER BY orders.order_id DESC"
        + (" FOR UPDATE OF orders" if lock else ""),
        (list(order_ids),),
    )


async def list_sizes(
    connection: Connection, user_id: uuid.UUID, before: uuid.UUID | None, limit: int
) -> list[tuple[uuid.UUID, int]]:
    """List a user's orders, newest first, as ids and numbers of lines: at most `limit`.

    `before` is the id that the list continues after.
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


async def save_orders(connection: Connection, orders: Sequence[Order]) -> list[Order]:
    """Save orders that nobody has changed since they were read; return those, as they are now.

    Writes the prices of the lines of orders that become RESERVED, and an event for each order that
    comes to an announced state. One statement, so all or nothing without a transaction around it.
    """
    cursor = await connection.execute(_SAVE, _to_parameters(orders))
    given = {order.order_id: order for order in orders}
    return [
        replace(given[order_id], version=version, update_time=update_time)
        for order_id, version, update_time in await cursor.fetchall()
    ]


async def _insert_orders(connection: Connection, wanted: Sequence[NewOrder]) -> dict[Key, Order]:
    cursor = await connection.execute(
        _INSERT,
        {
            "user_ids": [order.user_id for order in wanted],
            "idempotency_keys": [order.idempotency_key for order in wanted],
            "request_hashes": [hash_request(order) for order in wanted],
            "payment_methods": [order.payment_method for order in wanted],
            "lease": LEASE,
        },
    )
    rows = await cursor.fetchall()
    lines = {order.key: order.lines for order in wanted}
    return {
        (user_id, key): Order(
            order_id, user_id, key, request_hash, method, created, updated, lines[user_id, key]
        )
        for order_id, user_id, key, request_hash, method, created, updated in rows
    }


async def _insert_lines(connection: Connection, orders: Iterable[Order]) -> None:
    numbered = list(_number_lines(orders))
    if not numbered:
        return
    await connection.execute(
        "INSERT INTO order_lines (order_id, line_number, product_id, quantity)"
        " SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::uuid[], %s::integer[])",
        (
            [order_id for order_id, _, _ in numbered],
            [number for _, number, _ in numbered],
            [line.product_id for _, _, line in numbered],
            [line.quantity for _, _, line in numbered],
        ),
    )


def _number_lines(orders: Iterable[Order]) -> Iterable[tuple[uuid.UUID, int, Line]]:
    for order in orders:
        for number, line in enumerate(order.lines, start=1):
            yield order.order_id, number, line


def _to_parameters(orders: Sequence[Order]) -> Mapping[str, object]:
    totals = [order.total for order in orders]
    refusals = [order.refusal for order in orders]
    return {
        "order_ids": [order.order_id for order in orders],
        "versions": [order.version for order in orders],
        "states": [str(order.state) for order in orders],
        "currency_codes": [total and total.currency_code for total in totals],
        "totals_minor": [total and total.minor for total in totals],
        "payment_ids": [order.payment_id for order in orders],
        "reasons": [refusal and refusal.reason for refusal in refusals],
        "messages": [refusal and refusal.message for refusal in refusals],
        "metadatas": [refusal and Jsonb(dict(refusal.metadata)) for refusal in refusals],
        "cancels": [order.cancel_requested for order in orders],
        "prices": [_to_prices(order) for order in orders],
        "active": [str(state) for state in ACTIVE],
        "announced": [str(state) for state in ANNOUNCED],
        "lease": LEASE,
    }


def _to_prices(order: Order) -> str | None:
    """Return the prices of an order that becomes RESERVED as SQL writes an array."""
    if order.state is not State.RESERVED:
        return None
    return "{" + ",".join(str(line.unit_price_minor) for line in order.lines) + "}"


async def _fetch_orders(
    connection: Connection, query: LiteralString, parameters: Params
) -> list[Order]:
    cursor = connection.cursor(row_factory=args_row(_to_order))
    await cursor.execute(query, parameters)
    return await cursor.fetchall()


def _to_order(
    order_id: uuid.UUID,
    user_id: uuid.UUID,
    idempotency_key: str,
    request_hash: bytes,
    payment_method: str,
    create_time: dt.datetime,
    update_time: dt.datetime,
    product_ids: Sequence[uuid.UUID],
    quantities: Sequence[int],
    prices_minor: Sequence[int | None],
    state: str,
    version: int,
    total_minor: int | None,
    currency_code: str,
    payment_id: uuid.UUID | None,
    refusal_reason: str | None,
    refusal_message: str,
    refusal_metadata: Mapping[str, str],
    cancel_requested: bool,
) -> Order:
    refusal = None
    if refusal_reason is not None:
        refusal = Refusal(refusal_reason, refusal_message, refusal_metadata)
    return Order(
        order_id,
        user_id,
        idempotency_key,
        request_hash,
        payment_method,
        create_time,
        update_time,
        lines=tuple(map(Line, product_ids, quantities, prices_minor)),
        state=State(state),
        version=version,
        total=None if total_minor is None else Amount(total_minor, currency_code),
        payment_id=payment_id,
        refusal=refusal,
        cancel_requested=cancel_requested,
    )
