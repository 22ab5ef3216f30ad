"""The sweep of expired reservations, on a real database."""

import asyncio
import uuid
from collections.abc import MutableMapping
from functools import partial
from typing import Any, NoReturn, TypeAlias

import pytest
import structlog

from chassis.database import Database
from chassis.money import Amount
from chassis.supervision import BackgroundTask
from services.product import expiry, repository, reservation_steps, stock_repository
from services.product.domain import Details
from services.product.reservation import Line, ReservationRequest, State

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "product"
Events: TypeAlias = "asyncio.Queue[MutableMapping[str, Any]]"


@pytest.fixture
async def events() -> Events:
    """Return a queue of the log events of the sweep."""
    queue: Events = asyncio.Queue()

    def capture(_logger: object, _method: str, event: MutableMapping[str, Any]) -> NoReturn:
        queue.put_nowait(event)
        raise structlog.DropEvent

    structlog.reset_defaults()
    structlog.configure(processors=[capture])
    return queue


async def reserve_expired(database: Database, count: int) -> None:
    details = Details(f"SKU-{count}", "Name", "", (), Amount(1, "GBP"), "", {})
    async with database.transaction() as connection:
        (product,) = await repository.insert_products(
            connection, [repository.NewProduct(details, count)]
        )
        line = Line(product.product_id, 1)
        requests = [ReservationRequest(uuid.uuid4(), (line,)) for _ in range(count)]
        await reservation_steps.reserve(connection, requests, pinned=False)
        await connection.execute(
            "UPDATE reservations SET expires_at = now() WHERE state = 'RESERVED'"
        )


async def count_available(database: Database) -> int:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT sum(available)::bigint FROM stock")
        ((available,),) = await cursor.fetchall()
    return int(available)


async def test_release_expired_releases_all(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservation_steps, "MAX_EXPIRED", 10)
    await reserve_expired(database, 25)
    assert await expiry.release_expired(database) == 25
    assert await count_available(database) == 25


async def test_release_expired_bounds_its_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservation_steps, "MAX_EXPIRED", 10)
    await reserve_expired(database, 25)
    async with database.transaction() as connection:
        assert await reservation_steps.release_expired(connection) == 10


async def test_release_expired_skips_locked_reservations(
    database: Database,
) -> None:
    await reserve_expired(database, 3)
    async with database.transaction() as connection:
        locked = await stock_repository.lock_expired(connection, 1)
        async with asyncio.timeout(10):
            assert await expiry.release_expired(database) == 2
    assert all(found.state == State.RESERVED for found in locked.values())
    assert await expiry.release_expired(database) == 1


async def test_sweep_runs_periodically(database: Database, events: Events) -> None:
    sweeper = BackgroundTask("sweep", partial(expiry.sweep, database), 0.01)
    sweeper.start()
    async with asyncio.timeout(10):
        for count in (3, 2):
            await reserve_expired(database, count)
            assert await events.get() == {"event": "reservations_expired", "count": count}
    await sweeper.stop()
    assert await count_available(database) == 5
