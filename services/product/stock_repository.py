"""All SQL of stock and reservations. Callers own the connections and their transactions.

Locks: every transaction locks reservations first, then stock, then details of products, each in
the order of the ids, which prevents deadlocks. Data for a decision is read by a separate statement
after the lock is granted: a statement that waits for a lock rereads the rows that it locks, but
sees joined rows as of its snapshot.

Versions and etags: every change of the details of a product increments its version and sets its
update_time, under the lock of the details. Stock has no version: an etag contains its counts, but
an update compares only the version.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString

from psycopg.rows import scalar_row

from chassis import errors
from chassis.database import Connection, fetch
from chassis.money import Amount
from services.product.domain import Adjustment, Stock
from services.product.reservation import (
    LIFETIME,
    PricedLine,
    PricedStock,
    Rejection,
    RejectionReason,
    Reservation,
    ReservationResult,
    State,
)

_RESERVATION_COLUMNS: LiteralString = (
    "order_id, state, coalesce(expires_at <= now(), false), rejection_reason, rejected_product_id"
)
_NUMBERED_PRODUCTS: LiteralString = (
    "unnest(%b::uuid[]) WITH ORDINALITY AS given (product_id, number)"
)
"""The product ids of a parameter, each with its position, which begins with 1."""
_UNITS_OF_ORDERS: LiteralString = (
    "(SELECT product_id, sum(quantity)::bigint AS units FROM unnest(%b::uuid[]) AS moved (order_id)"
    " JOIN reservation_lines USING (order_id) GROUP BY product_id) AS line"
)
"""How many units of each product are reserved by the orders whose ids are the parameter."""


async def lock_stock(connection: Connection, product_id: uuid.UUID) -> Stock:
    """Get the stock of a product, and lock the row until the transaction ends.

    Raises:
        errors.NotFound: the product does not exist.
    """
    found = await fetch(
        connection,
        Stock,
        "SELECT available, reserved, sold, stocked FROM stock WHERE product_id = %s FOR UPDATE",
        (product_id,),
    )
    if not found:
        raise errors.not_found("product", product_id)
    return found[0]


async def find_adjustment(connection: Connection, adjustment: Adjustment) -> Adjustment | None:
    """Get the earlier adjustment of the product with the same idempotency key, if there is one."""
    found = await fetch(
        connection,
        Adjustment,
        "SELECT product_id, delta, reason, idempotency_key FROM stock_adjustments"
        " WHERE product_id = %s AND idempotency_key = %s",
        (adjustment.product_id, adjustment.idempotency_key),
    )
    return found[0] if found else None


async def record_adjustment(connection: Connection, adjustment: Adjustment, stock: Stock) -> None:
    """Insert an adjustment, and write the stock after it, whose row is locked."""
    async with connection.pipeline():
        await connection.execute(
            "INSERT INTO stock_adjustments (product_id, idempotency_key, delta, reason)"
            " VALUES (%s, nullif(%s, ''), %s, %s)",
            (
                adjustment.product_id,
                adjustment.idempotency_key,
                adjustment.delta,
                adjustment.reason,
            ),
        )
        await connection.execute(
            "UPDATE stock SET available = %s, stocked = %s WHERE product_id = %s",
            (stock.available, stock.stocked, adjustment.product_id),
        )


async def insert_reservations(
    connection: Connection, order_ids: Sequence[uuid.UUID], state: State
) -> set[uuid.UUID]:
    """Insert reservations for those orders that have none; return the ids of these orders.

    Waits for concurrent transactions that insert the same orders. RESERVED ones expire.
    """
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "INSERT INTO reservations (order_id, state, expires_at)"
        " SELECT order_id, %(state)s::text,"
        " CASE WHEN %(state)s::text = 'RESERVED' THEN now() + %(lifetime)s::interval END"
        " FROM unnest(%(order_ids)b::uuid[]) AS o (order_id) ORDER BY order_id"
        " ON CONFLICT (order_id) DO NOTHING RETURNING order_id",
        {"state": state, "lifetime": LIFETIME, "order_ids": list(order_ids)},
    )
    return set(await cursor.fetchall())


async def lock_reservations(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Reservation]:
    """Get the existing reservations of orders, and lock them until the transaction ends."""
    found = await fetch(
        connection,
        _to_reservation,
        f"SELECT {_RESERVATION_COLUMNS} FROM unnest(%b::uuid[]) AS given (order_id)"
        " JOIN reservations USING (order_id) ORDER BY order_id FOR UPDATE OF reservations",
        (list(order_ids),),
    )
    return {reservation.order_id: reservation for reservation in found}


async def lock_expired(connection: Connection, limit: int) -> dict[uuid.UUID, Reservation]:
    """Get and lock at most `limit` expired reservations, skipping those that are locked."""
    found = await fetch(
        connection,
        _to_reservation,
        f"SELECT {_RESERVATION_COLUMNS} FROM reservations"
        " WHERE state = 'RESERVED' AND expires_at <= now()"
        " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED",
        (limit,),
    )
    return {reservation.order_id: reservation for reservation in found}


async def get_lines(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[PricedLine, ...]]:
    """Get the reserved lines of orders that have any."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(
        "SELECT order_id, product_id, quantity, price_minor, currency_code"
        " FROM unnest(%b::uuid[]) AS given (order_id) JOIN reservation_lines USING (order_id)",
        (list(order_ids),),
    )
    found: dict[uuid.UUID, list[PricedLine]] = defaultdict(list)
    for order_id, product_id, quantity, *price in await cursor.fetchall():
        found[order_id].append(PricedLine(product_id, quantity, Amount(*price)))
    return {order_id: tuple(lines) for order_id, lines in found.items()}


async def lock_priced_stock(
    connection: Connection, product_ids: Iterable[uuid.UUID]
) -> dict[uuid.UUID, PricedStock]:
    """Get stock and prices of the existing products; lock the stock until the transaction ends."""
    ids = list(product_ids)
    # Rows contain the position of the product in `ids`, which is cheaper to decode than a UUID.
    stock, prices = connection.cursor(binary=True), connection.cursor(binary=True)
    async with connection.pipeline():
        await stock.execute(
            f"SELECT number, available FROM {_NUMBERED_PRODUCTS} JOIN stock USING (product_id)"
            " ORDER BY product_id FOR UPDATE OF stock",
            (ids,),
        )
        await prices.execute(
            f"SELECT number, price_minor, currency_code FROM {_NUMBERED_PRODUCTS}"
            " JOIN products USING (product_id)",
            (ids,),
        )
    available: dict[int, int] = dict(await stock.fetchall())
    return {
        ids[number - 1]: PricedStock(available[number], Amount(*price))
        for number, *price in await prices.fetchall()
        if number in available
    }


async def save_allocations(connection: Connection, results: Sequence[ReservationResult]) -> None:
    """Insert the lines of new reservations, take them from the stock, and write rejections.

    The stock must be locked.
    """
    rows = [
        (
            result.order_id,
            line.product_id,
            line.quantity,
            line.price.minor,
            line.price.currency_code,
        )
        for result in results
        for line in result.lines
    ]
    units: dict[uuid.UUID, int] = defaultdict(int)
    for _, product_id, quantity, _, _ in rows:
        units[product_id] += quantity
    async with connection.pipeline():
        if rows:
            await connection.execute(
                "INSERT INTO reservation_lines"
                " (order_id, product_id, quantity, price_minor, currency_code)"
                " SELECT * FROM unnest"
                "(%b::uuid[], %b::uuid[], %b::bigint[], %b::bigint[], %b::text[])",
                [list(column) for column in zip(*rows, strict=True)],
            )
            await connection.execute(
                "UPDATE stock SET available = available - units, reserved = reserved + units"
                " FROM unnest(%b::uuid[], %b::bigint[]) AS line (product_id, units)"
                " WHERE stock.product_id = line.product_id",
                (list(units), list(units.values())),
            )
        await _save_rejections(connection, results)


async def save_transitions(
    connection: Connection,
    reservations: Mapping[uuid.UUID, Reservation],
    results: Sequence[ReservationResult],
) -> None:
    """Update the states of locked reservations, and the counts of the stock that they reserve."""
    moved: dict[State, list[uuid.UUID]] = defaultdict(list)
    for result in results:
        before = reservations.get(result.order_id)
        if before is not None and result.state is not None and result.state != before.state:
            moved[result.state].append(result.order_id)
    if not moved:
        return
    async with connection.pipeline():
        for state, order_ids in moved.items():
            await connection.execute(
                "UPDATE reservations SET state = %s, expires_at = NULL, update_time = now()"
                " FROM unnest(%b::uuid[]) AS moved (moved_id) WHERE order_id = moved_id",
                (state, order_ids),
            )
        leaving = moved[State.COMMITTED] + moved[State.RELEASED]
        await _lock_stock_of(connection, leaving)
        await _move_stock(connection, "sold = sold + units", moved[State.COMMITTED])
        await _move_stock(connection, "available = available + units", moved[State.RELEASED])


async def _save_rejections(connection: Connection, results: Sequence[ReservationResult]) -> None:
    rows = [
        (result.order_id, result.rejection.reason, result.rejection.product_id)
        for result in results
        if result.rejection is not None
    ]
    if rows:
        await connection.execute(
            "UPDATE reservations SET state = 'REJECTED', expires_at = NULL,"
            " rejection_reason = reason, rejected_product_id = product_id"
            " FROM unnest(%s::uuid[], %s::text[], %s::uuid[])"
            " AS rejected (rejected_id, reason, product_id) WHERE order_id = rejected_id",
            [list(column) for column in zip(*rows, strict=True)],
        )


async def _lock_stock_of(connection: Connection, order_ids: Sequence[uuid.UUID]) -> None:
    if order_ids:
        await connection.execute(
            f"SELECT count(*) FROM (SELECT FROM {_UNITS_OF_ORDERS} JOIN stock USING (product_id)"
            " ORDER BY product_id FOR UPDATE OF stock) AS locked",
            (order_ids,),
        )


async def _move_stock(
    connection: Connection, gain: LiteralString, order_ids: Sequence[uuid.UUID]
) -> None:
    if order_ids:
        await connection.execute(
            f"UPDATE stock SET reserved = reserved - units, {gain} FROM {_UNITS_OF_ORDERS}"
            " WHERE stock.product_id = line.product_id",
            (order_ids,),
        )


def _to_reservation(
    order_id: uuid.UUID,
    state: str,
    expired: bool,
    reason: str | None,
    product_id: uuid.UUID | None,
) -> Reservation:
    rejection = None
    if reason is not None and product_id is not None:
        rejection = Rejection(RejectionReason(reason), product_id)
    return Reservation(order_id, State(state), expired, rejection)
