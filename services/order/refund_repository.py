"""The SQL of refunds. Callers own the connections and their transactions.

Whoever changes refunds has locked the rows of their orders before.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import LiteralString

from psycopg.types.json import Jsonb

from chassis.database import Connection, fetch
from chassis.money import Amount
from services.order import repository
from services.order.domain import Line, Order
from services.order.event import Cause
from services.order.refund import NewRefund, Refund, RefundKey, RefundState, hash_request
from services.order.repository import LEASE

_SELECT: LiteralString = (
    "SELECT order_id, number, idempotency_key, request_hash, amount_minor, currency_code,"
    " product_ids, quantities, state, create_time, update_time"
    " FROM order_refunds JOIN LATERAL ("
    " SELECT coalesce(array_agg(product_id ORDER BY product_id), '{}') AS product_ids,"
    " coalesce(array_agg(quantity ORDER BY product_id), '{}') AS quantities"
    " FROM order_refund_lines AS line"
    " WHERE (line.order_id, line.number) = (order_refunds.order_id, order_refunds.number)"
    ") AS lines ON true"
)

_INSERT: LiteralString = """
INSERT INTO order_refunds
    (order_id, number, idempotency_key, request_hash, amount_minor, currency_code)
SELECT %(order_id)s, coalesce(max(number), 0) + 1, %(key)s, %(hash)s, %(minor)s, %(code)s
FROM order_refunds WHERE order_id = %(order_id)s
RETURNING number
"""

# An order with pending refunds is due, and leased to the process that notes one on it.
_NOTE: LiteralString = """
WITH saved AS (
    UPDATE orders SET
        version = changed.version, refunded_minor = changed.refunded_minor,
        pending_refunds = changed.pending_refunds, attempts = 0, failing_since = NULL,
        failure = NULL, next_at = CASE WHEN changed.pending_refunds > 0 THEN now() END,
        lease_until = CASE WHEN changed.pending_refunds > 0 THEN now() + %(lease)s END,
        update_time = now()
    FROM unnest(
        %(order_ids)b::uuid[], %(versions)b::integer[], %(refunded_minor)b::bigint[],
        %(pending_refunds)b::integer[]
    ) AS changed (order_id, version, refunded_minor, pending_refunds)
    WHERE orders.order_id = changed.order_id
)
INSERT INTO order_events (order_id, version, state, cause, details)
SELECT order_id, version, state, %(cause)s, jsonb_build_object('refund', refund)
FROM unnest(
    %(event_order_ids)b::uuid[], %(event_versions)b::integer[], %(states)b::text[],
    %(refunds)s::jsonb[]
) AS event (order_id, version, state, refund) ORDER BY order_id, version
"""


async def get(connection: Connection, key: RefundKey) -> Refund:
    """Get an existing refund."""
    (found,) = await fetch(
        connection, _to_refund, f"{_SELECT} WHERE order_id = %s AND number = %s", key
    )
    return found


async def find_repeated(
    connection: Connection, order_id: uuid.UUID, new: NewRefund
) -> Refund | None:
    """Get the refund of an order with the idempotency key of a new one, if there is one."""
    found = await fetch(
        connection,
        _to_refund,
        f"{_SELECT} WHERE order_id = %s AND idempotency_key = %s",
        (order_id, new.idempotency_key),
    )
    return found[0] if found else None


async def list_pending(
    connection: Connection, order_ids: Sequence[uuid.UUID], limit: int
) -> list[Refund]:
    """List at most `limit` refunds of orders that are PENDING, the oldest of each order first."""
    return await fetch(
        connection,
        _to_refund,
        f"{_SELECT} WHERE order_id = ANY(%s) AND state = 'PENDING'"
        " ORDER BY number, order_id LIMIT %s",
        (list(order_ids), limit),
    )


async def find_pending(connection: Connection, keys: Iterable[RefundKey]) -> list[Refund]:
    """Return those of the refunds that are PENDING."""
    order_ids, numbers = zip(*keys, strict=True)
    return await fetch(
        connection,
        _to_refund,
        f"{_SELECT} JOIN unnest(%b::uuid[], %b::integer[]) AS given (order_id, number)"
        " USING (order_id, number) WHERE state = 'PENDING' ORDER BY order_id, number",
        (list(order_ids), list(numbers)),
    )


async def list_of_order(
    connection: Connection, order_id: uuid.UUID, after: int, limit: int
) -> list[Refund]:
    """List at most `limit` refunds of an order that follow a number, oldest first."""
    return await fetch(
        connection,
        _to_refund,
        f"{_SELECT} WHERE order_id = %s AND number > %s ORDER BY number LIMIT %s",
        (order_id, after, limit),
    )


async def sum_restocked(connection: Connection, order_id: uuid.UUID) -> dict[uuid.UUID, int]:
    """Return the units by product id of all refunds of an order that are PENDING or SUCCEEDED."""
    cursor = await connection.execute(
        "SELECT product_id, sum(quantity)::bigint FROM order_refund_lines"
        " JOIN order_refunds USING (order_id, number)"
        " WHERE order_id = %s AND state <> 'FAILED' GROUP BY product_id",
        (order_id,),
    )
    return dict(await cursor.fetchall())


async def accept_refund(
    connection: Connection, order_id: uuid.UUID, new: NewRefund, amount: Amount
) -> Refund:
    """Insert a refund with the next number of its order, and return it."""
    cursor = await connection.execute(
        _INSERT,
        {
            "order_id": order_id,
            "key": new.idempotency_key,
            "hash": hash_request(new),
            "minor": amount.minor,
            "code": amount.currency_code,
        },
    )
    ((number,),) = await cursor.fetchall()
    await connection.execute(
        "INSERT INTO order_refund_lines (order_id, number, product_id, quantity)"
        " SELECT %s, %s, * FROM unnest(%b::uuid[], %b::integer[])",
        (
            order_id,
            number,
            [line.product_id for line in new.restock],
            [line.quantity for line in new.restock],
        ),
    )
    return await get(connection, (order_id, number))


async def settle_refunds(connection: Connection, refunds: Sequence[Refund]) -> None:
    """Write the final states of refunds."""
    await connection.execute(
        "UPDATE order_refunds SET state = changed.state, update_time = now()"
        " FROM unnest(%b::uuid[], %b::integer[], %b::text[]) AS changed (order_id, number, state)"
        " WHERE (order_refunds.order_id, order_refunds.number)"
        " = (changed.order_id, changed.number)",
        (
            [refund.order_id for refund in refunds],
            [refund.number for refund in refunds],
            [str(refund.state) for refund in refunds],
        ),
    )


async def lock_orders(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Order]:
    """Get orders by their ids, and lock them until the transaction ends, in that order."""
    await connection.execute(
        "SELECT FROM orders WHERE order_id = ANY(%s) ORDER BY order_id FOR UPDATE",
        (list(order_ids),),
    )
    return {order.order_id: order for order in await repository.get_orders(connection, order_ids)}


async def note(
    connection: Connection, changes: Sequence[tuple[Order, Refund]], cause: Cause
) -> None:
    """Write orders whose refunds have changed, and an event for each change.

    An order may have several changes, in the order of its versions; the last one is written.
    """
    orders = list({order.order_id: order for order, _ in changes}.values())
    await connection.execute(
        _NOTE,
        {
            "order_ids": [order.order_id for order in orders],
            "versions": [order.version for order in orders],
            "refunded_minor": [order.refunded_minor for order in orders],
            "pending_refunds": [order.pending_refunds for order in orders],
            "lease": LEASE,
            "cause": cause,
            "event_order_ids": [order.order_id for order, _ in changes],
            "event_versions": [order.version for order, _ in changes],
            "states": [str(order.state) for order, _ in changes],
            "refunds": [Jsonb(_to_details(refund)) for _, refund in changes],
        },
    )


def _to_details(refund: Refund) -> dict[str, object]:
    return {
        "number": refund.number,
        "state": refund.state,
        "amount_minor": refund.amount.minor,
        "currency_code": refund.amount.currency_code,
    }


def _to_refund(
    order_id: uuid.UUID,
    number: int,
    idempotency_key: str,
    request_hash: bytes,
    amount_minor: int,
    currency_code: str,
    product_ids: Sequence[uuid.UUID],
    quantities: Sequence[int],
    state: str,
    create_time: dt.datetime,
    update_time: dt.datetime,
) -> Refund:
    return Refund(
        order_id,
        number,
        idempotency_key,
        request_hash,
        Amount(amount_minor, currency_code),
        tuple(map(Line, product_ids, quantities)),
        RefundState(state),
        create_time,
        update_time,
    )
