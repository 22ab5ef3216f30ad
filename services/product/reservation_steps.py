"""The steps of reservations: each locks, decides and writes, for many orders at once.

The caller runs a step in one transaction, and commits it before it responds. Steps are idempotent.
They lock reservations first and then stock, both in the order of their ids. The last step is that
of returns, whose rules are in `returns`.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from chassis import errors
from chassis.database import Connection
from services.product import reservation, returns, returns_repository, stock_repository
from services.product.reservation import (
    PricedLine,
    Reservation,
    ReservationRequest,
    ReservationResult,
    State,
)
from services.product.returns import Return, ReturnKey

MAX_EXPIRED = 1_000
"""How many expired reservations `release_expired` releases at most."""

Step = Callable[[Connection, Sequence[uuid.UUID]], Awaitable[list[ReservationResult]]]
Decide = Callable[[uuid.UUID, Reservation | None], ReservationResult]


async def reserve(
    connection: Connection, requests: Sequence[ReservationRequest], *, pinned: bool
) -> list[ReservationResult]:
    """Reserve stock for orders, in request order; return one result per order, in order."""
    granted = State.PINNED if pinned else State.RESERVED
    order_ids = [request.order_id for request in requests]
    new = await stock_repository.insert_reservations(connection, order_ids, granted)
    first = [request for request in requests if request.order_id in new]
    repeated = [request for request in requests if request.order_id not in new]
    repeats = await _Repeats.load(connection, repeated, granted)
    # All stock of the batch is locked by one statement: two sorted ones could deadlock.
    product_ids = {line.product_id for request in first for line in request.lines}
    stock = await stock_repository.lock_priced_stock(
        connection, product_ids | repeats.released_products()
    )
    results = reservation.allocate(first, stock, granted)
    await stock_repository.save_transitions(connection, repeats.reservations, repeats.results)
    await stock_repository.save_allocations(connection, results)
    found = {result.order_id: result for result in (*results, *repeats.results)}
    return [found[order_id] for order_id in order_ids]


async def pin(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[ReservationResult]:
    """Pin reservations, which then do not expire; release those that have expired."""
    return await _move(connection, order_ids, reservation.pin)


async def commit(connection: Connection, order_ids: Sequence[uuid.UUID]) -> list[ReservationResult]:
    """Commit pinned reservations: their stock is sold."""
    return await _move(connection, order_ids, reservation.commit)


async def release(
    connection: Connection, order_ids: Sequence[uuid.UUID]
) -> list[ReservationResult]:
    """Release reservations; orders without one get a released one, which prevents any later one."""
    await stock_repository.insert_reservations(connection, order_ids, State.RELEASED)
    return await _move(connection, order_ids, reservation.release)


async def release_expired(connection: Connection) -> int:
    """Release at most `MAX_EXPIRED` expired reservations; return their number."""
    reservations = await stock_repository.lock_expired(connection, MAX_EXPIRED)
    results = [reservation.release(order_id, found) for order_id, found in reservations.items()]
    await stock_repository.save_transitions(connection, reservations, results)
    return len(reservations)


async def return_units(
    connection: Connection, requests: Sequence[Return]
) -> dict[ReturnKey, errors.Error]:
    """Put units that were sold back into stock; return why some of the returns cannot be made."""
    order_ids = list({request.order_id for request in requests})
    reservations = await stock_repository.lock_reservations(connection, order_ids)
    committed = [key for key, each in reservations.items() if each.state == State.COMMITTED]
    lines = await stock_repository.get_lines(connection, committed)
    sold = {
        order_id: {line.product_id: line.quantity for line in of_order}
        for order_id, of_order in lines.items()
    }
    recorded = await returns_repository.find_recorded(
        connection, [request.key for request in requests]
    )
    returned = await returns_repository.sum_returned(connection, order_ids)
    refused = returns.find_errors(requests, recorded, sold, returned)
    new = [each for each in requests if each.key not in recorded and each.key not in refused]
    if new:
        await returns_repository.save_returns(connection, new)
    return refused


@dataclass(frozen=True, slots=True)
class _Repeats:
    """The repeated requests of a batch: their reservations, and the results of the step."""

    reservations: Mapping[uuid.UUID, Reservation]
    lines: Mapping[uuid.UUID, tuple[PricedLine, ...]]
    results: Sequence[ReservationResult]

    @classmethod
    async def load(
        cls, connection: Connection, requests: Sequence[ReservationRequest], granted: State
    ) -> Self:
        if not requests:
            return cls({}, {}, [])
        order_ids = [request.order_id for request in requests]
        reservations = await stock_repository.lock_reservations(connection, order_ids)
        lines = await stock_repository.get_lines(connection, order_ids)
        results = [
            reservation.repeat(
                reservations[request.order_id], lines.get(request.order_id, ()), request, granted
            )
            for request in requests
        ]
        return cls(reservations, lines, results)

    def released_products(self) -> set[uuid.UUID]:
        return {
            line.product_id
            for result in self.results
            if result.state == State.RELEASED
            for line in self.lines.get(result.order_id, ())
        }


async def _move(
    connection: Connection, order_ids: Sequence[uuid.UUID], decide: Decide
) -> list[ReservationResult]:
    reservations = await stock_repository.lock_reservations(connection, order_ids)
    results = [decide(order_id, reservations.get(order_id)) for order_id in order_ids]
    await stock_repository.save_transitions(connection, reservations, results)
    return results
