"""The product side of the order protocol: each step locks, decides, saves, for many orders at once.

A step runs inside one transaction, which the caller commits before it answers, and changes nothing
more when it is repeated. Reservations are locked first, then stock, both sorted.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from chassis.database import Connection
from services.product import reservation, stock_repository
from services.product.reservation import Demand, Outcome, PricedLine, Reservation, State

MAX_EXPIRED = 1_000
"""How many expired reservations one sweep releases."""

Step = Callable[[Connection, Sequence[uuid.UUID]], Awaitable[list[Outcome]]]
Decide = Callable[[uuid.UUID, Reservation | None], Outcome]


async def reserve(
    connection: Connection, demands: Sequence[Demand], *, pinned: bool
) -> list[Outcome]:
    """Set stock aside for orders, in the order of the batch, which is also that of the outcomes."""
    granted = State.PINNED if pinned else State.RESERVED
    order_ids = [demand.order_id for demand in demands]
    new = await stock_repository.insert_reservations(connection, order_ids, granted)
    fresh = [demand for demand in demands if demand.order_id in new]
    repeated = [demand for demand in demands if demand.order_id not in new]
    again = await _Repeats.load(connection, repeated, granted)
    # All stock that this batch touches is locked at once: two sorted rounds could meet in a circle.
    wanted = {line.product_id for demand in fresh for line in demand.lines}
    offers = await stock_repository.lock_offers(connection, wanted | again.released_products())
    outcomes = reservation.allocate(fresh, offers, granted)
    await stock_repository.save_transitions(connection, again.held, again.outcomes)
    await stock_repository.save_allocations(connection, outcomes)
    found = {outcome.order_id: outcome for outcome in (*outcomes, *again.outcomes)}
    return [found[order_id] for order_id in order_ids]


async def pin(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[Outcome]:
    """Keep what orders hold until it is committed or released, and release what has expired."""
    return await _move(connection, order_ids, reservation.pin)


async def commit(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[Outcome]:
    """Turn what orders have pinned into sold stock."""
    return await _move(connection, order_ids, reservation.commit)


async def release(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[Outcome]:
    """Give back what orders hold; those that hold nothing yet never will."""
    await stock_repository.insert_reservations(connection, order_ids, State.RELEASED)
    return await _move(connection, order_ids, reservation.release)


async def release_expired(connection: Connection) -> int:
    """Give back what at most `MAX_EXPIRED` expired reservations hold; return how many it were."""
    held = await stock_repository.lock_expired(connection, MAX_EXPIRED)
    outcomes = [reservation.release(order_id, found) for order_id, found in held.items()]
    await stock_repository.save_transitions(connection, held, outcomes)
    return len(held)


@dataclass(frozen=True, slots=True)
class _Repeats:
    """The orders of a batch that asked before: what they hold, and what they are answered."""

    held: Mapping[uuid.UUID, Reservation]
    lines: Mapping[uuid.UUID, tuple[PricedLine, ...]]
    outcomes: Sequence[Outcome]

    @classmethod
    async def load(cls, connection: Connection, demands: Sequence[Demand], granted: State) -> Self:
        if not demands:
            return cls({}, {}, [])
        order_ids = [demand.order_id for demand in demands]
        held = await stock_repository.lock_reservations(connection, order_ids)
        lines = await stock_repository.get_lines(connection, order_ids)
        outcomes = [
            reservation.repeat(
                held[demand.order_id], lines.get(demand.order_id, ()), demand, granted
            )
            for demand in demands
        ]
        return cls(held, lines, outcomes)

    def released_products(self) -> set[uuid.UUID]:
        return {
            line.product_id
            for outcome in self.outcomes
            if outcome.state == State.RELEASED
            for line in self.lines.get(outcome.order_id, ())
        }


async def _move(
    connection: Connection, order_ids: Sequence[uuid.UUID], decide: Decide
) -> list[Outcome]:
    held = await stock_repository.lock_reservations(connection, order_ids)
    outcomes = [decide(order_id, held.get(order_id)) for order_id in order_ids]
    await stock_repository.save_transitions(connection, held, outcomes)
    return outcomes
