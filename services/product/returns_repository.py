"""The SQL of returns. Callers own the connections and their transactions.

The reservations of the orders must be locked, and are locked before stock, as everywhere.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence

from chassis.database import Connection
from services.product.returns import Return, ReturnKey


async def find_recorded(
    connection: Connection, keys: Sequence[ReturnKey]
) -> dict[ReturnKey, dict[uuid.UUID, int]]:
    """Get the units by product id of those returns that were made."""
    cursor = await connection.execute(
        "SELECT order_id, number, product_id, quantity FROM stock_returns"
        " JOIN unnest(%s::uuid[], %s::integer[]) AS given (order_id, number)"
        " USING (order_id, number)",
        ([order_id for order_id, _ in keys], [number for _, number in keys]),
    )
    found: dict[ReturnKey, dict[uuid.UUID, int]] = defaultdict(dict)
    for order_id, number, product_id, quantity in await cursor.fetchall():
        found[order_id, number][product_id] = quantity
    return found


async def sum_returned(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, dict[uuid.UUID, int]]:
    """Return how many units of each product were returned of each order, in all its returns."""
    cursor = await connection.execute(
        "SELECT order_id, product_id, sum(quantity)::bigint FROM stock_returns"
        " WHERE order_id = ANY(%s) GROUP BY order_id, product_id",
        (list(order_ids),),
    )
    found: dict[uuid.UUID, dict[uuid.UUID, int]] = defaultdict(dict)
    for order_id, product_id, units in await cursor.fetchall():
        found[order_id][product_id] = units
    return found


async def save_returns(connection: Connection, returns: Sequence[Return]) -> None:
    """Insert returns, and put their units back; those of deleted products go nowhere."""
    rows = [
        (each.order_id, each.number, line.product_id, line.quantity)
        for each in returns
        for line in each.lines
    ]
    units: Counter[uuid.UUID] = Counter()
    for _, _, product_id, quantity in rows:
        units[product_id] += quantity
    await connection.execute(
        "INSERT INTO stock_returns (order_id, number, product_id, quantity)"
        " SELECT * FROM unnest(%s::uuid[], %s::integer[], %s::uuid[], %s::bigint[])",
        [list(column) for column in zip(*rows, strict=True)],
    )
    # The rows are locked in the order of the products, which prevents deadlocks.
    await connection.execute(
        "WITH locked AS (SELECT product_id, units"
        " FROM unnest(%s::uuid[], %s::bigint[]) AS line (product_id, units)"
        " JOIN stock USING (product_id) ORDER BY product_id FOR UPDATE OF stock)"
        " UPDATE stock SET sold = sold - units, available = available + units"
        " FROM locked WHERE stock.product_id = locked.product_id",
        (list(units), list(units.values())),
    )
