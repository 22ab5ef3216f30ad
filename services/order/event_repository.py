"""The SQL of events. Callers own the connections and their transactions.

`repository` and `refund_repository` write the events, in the statements that change orders.
"""

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, LiteralString

from chassis.database import Connection, fetch
from chassis.money import Amount
from services.order.domain import State
from services.order.event import Cause, Event, Position, RefundChange
from services.order.refund import RefundState

# Transactions get numbers when they first write, and end in another order. Below the oldest one
# that is running, no event can appear any more: a reader that stops there misses none. That one
# may be of another database of the server. The numbers are those of a server: where a dump is
# restored into another one, tools/backup has that one catch up.
_ENDED: LiteralString = "xact_id < pg_snapshot_xmin(pg_current_snapshot())"

_SELECT: LiteralString = (
    "SELECT xact_id::text::bigint, event_id, order_id, version, state, cause, details, event_time"
    " FROM order_events"
)


async def list_of_order(
    connection: Connection, order_id: uuid.UUID, after_version: int, limit: int
) -> list[Event]:
    """List at most `limit` events of an order that follow a version, oldest first."""
    return await fetch(
        connection,
        _to_event,
        f"{_SELECT} WHERE order_id = %s AND version > %s ORDER BY version LIMIT %s",
        (order_id, after_version, limit),
    )


async def list_all(connection: Connection, after: Position, limit: int) -> list[Event]:
    """List at most `limit` events of all orders that follow a position, in commit order."""
    return await fetch(
        connection,
        _to_event,
        f"{_SELECT} WHERE (xact_id, event_id) > (%s::text::xid8, %s) AND {_ENDED}"
        " ORDER BY order_events.xact_id, event_id LIMIT %s",
        (str(after.transaction), after.event, limit),
    )


async def find_early(connection: Connection, after: Position, limit: int) -> list[uuid.UUID]:
    """Return the orders of at most `limit` events that follow a position and are not listed yet.

    These events are committed, but one that precedes them may still appear.
    """
    cursor = await connection.execute(
        "SELECT DISTINCT order_id FROM (SELECT order_id FROM order_events"
        " WHERE (xact_id, event_id) > (%s::text::xid8, %s)"
        " ORDER BY xact_id, event_id LIMIT %s) AS early",
        (str(after.transaction), after.event, limit),
    )
    return [order_id for (order_id,) in await cursor.fetchall()]


async def find_end(connection: Connection) -> Position:
    """Return the position of the newest event that readers may have seen."""
    cursor = await connection.execute(
        f"SELECT xact_id::text::bigint, event_id FROM order_events WHERE {_ENDED}"
        " ORDER BY order_events.xact_id DESC, event_id DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    return Position(0, 0) if row is None else Position(*row)


def _to_event(
    transaction: int,
    event_id: int,
    order_id: uuid.UUID,
    version: int,
    state: str,
    cause: str,
    details: Mapping[str, Any],
    event_time: dt.datetime,
) -> Event:
    position = Position(transaction, event_id)
    refund = details.get("refund")
    return Event(
        position,
        order_id,
        version,
        State(state),
        Cause(cause),
        details.get("refusal_reason", ""),
        details.get("action_required", False),
        event_time,
        refund and _to_refund(**refund),
    )


def _to_refund(number: int, state: str, amount_minor: int, currency_code: str) -> RefundChange:
    return RefundChange(number, RefundState(state), Amount(amount_minor, currency_code))
