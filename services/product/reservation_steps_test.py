"""Concurrent steps of reservations, for many orders and few products.

//tools/mutants shows that these tests notice a missing lock.
"""

import asyncio
import contextlib
import functools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar, cast

import pytest

from chassis.database import Database
from chassis.money import Amount
from services.product import repository, reservation_steps
from services.product.domain import Details
from services.product.reservation import Line, ReservationRequest, ReservationResult, State
from services.product.testing import find_discrepancies
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"
CONNECTIONS = 16
Result = TypeVar("Result")
Step = Callable[[], Awaitable[object]]


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    opened = Database(app_url(clean_database_url), connections=CONNECTIONS)
    await opened.open()
    async with contextlib.AsyncExitStack() as stack:
        # A pool grows while it is used: with all connections there, steps meet from the start.
        for _ in range(CONNECTIONS):
            await stack.enter_async_context(opened.connection())
    yield opened
    await opened.close()


async def add(database: Database, *available: int) -> list[uuid.UUID]:
    new = [
        repository.NewProduct(Details(f"{index}", "Name", "", (), Amount(1, "GBP"), "", {}), units)
        for index, units in enumerate(available)
    ]
    async with database.transaction() as connection:
        inserted = await repository.insert_products(connection, new)
    return [product.product_id for product in inserted]


async def reserve(
    database: Database, *requests: ReservationRequest, pinned: bool = False
) -> list[ReservationResult]:
    async with database.transaction() as connection:
        return await reservation_steps.reserve(connection, requests, pinned=pinned)


def request(*lines: tuple[uuid.UUID, int]) -> ReservationRequest:
    return ReservationRequest(
        uuid.uuid4(), tuple(Line(product_id, units) for product_id, units in lines)
    )


async def together(steps: Iterable[Awaitable[Result]]) -> list[Result]:
    """Run steps concurrently and wait for all; raise the first exception."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast(list[Result], results)


async def rush(database: Database, units: int, buyers: int) -> int:
    """Reserve one unit of a scarce product for many orders concurrently; count the successes."""
    (product,) = await add(database, units)
    results = await together(reserve(database, request((product, 1))) for _ in range(buyers))
    return sum(result.state == State.RESERVED for (result,) in results)


async def test_concurrent_reserves_of_a_scarce_product_get_all_of_it(
    database: Database, clean_database_url: str
) -> None:
    assert await rush(database, units=20, buyers=100) == 20
    assert find_discrepancies(clean_database_url) == []


def crowd(database: Database, products: Sequence[uuid.UUID], seed: int) -> list[Step]:
    """Return steps of all kinds for the same orders and products, each in a random order."""
    chance = random.Random(seed)
    orders = [
        request(*((product, chance.randint(1, 3)) for product in chance.sample(products, 5)))
        for _ in range(60)
    ]

    def some() -> list[ReservationRequest]:
        return chance.sample(orders, 12)

    def move(step: reservation_steps.Step) -> Step:
        order_ids = [each.order_id for each in some()]

        async def take() -> None:
            async with database.transaction() as connection:
                await step(connection, order_ids)

        return take

    async def sweep() -> None:
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE reservations SET expires_at = now() WHERE order_id ="
                " (SELECT order_id FROM reservations WHERE state = 'RESERVED'"
                "  LIMIT 1 FOR UPDATE SKIP LOCKED)"
            )
        async with database.transaction() as connection:
            await reservation_steps.release_expired(connection)

    steps: list[Step] = []
    for _ in range(25):
        batch, pinned = some(), chance.random() < 0.3
        steps.append(functools.partial(reserve, database, *batch, pinned=pinned))
        steps += [
            move(reservation_steps.pin),
            move(reservation_steps.commit),
            move(reservation_steps.release),
            sweep,
        ]
    chance.shuffle(steps)
    return steps


async def meet(database: Database, seeds: Iterable[int]) -> None:
    products = await add(database, *([40] * 8))
    for seed in seeds:
        await together(step() for step in crowd(database, products, seed))


async def test_concurrent_steps_never_deadlock_and_keep_the_stock_consistent(
    database: Database, clean_database_url: str
) -> None:
    await meet(database, range(3))
    assert find_discrepancies(clean_database_url) == []


async def test_concurrent_reserves_of_an_order_are_one(
    database: Database, clean_database_url: str
) -> None:
    (product,) = await add(database, 100)
    repeated = request((product, 2))
    results = await together(reserve(database, repeated) for _ in range(20))
    assert all(result == results[0] for result in results)
    assert find_discrepancies(clean_database_url) == []
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT available, reserved FROM stock")
        assert await cursor.fetchall() == [(98, 2)]


async def test_an_order_that_is_released_during_a_reserve_has_no_stock(
    database: Database, clean_database_url: str
) -> None:
    (product,) = await add(database, 100)
    requests = [request((product, 1)) for _ in range(30)]

    async def cancel(order_id: uuid.UUID) -> None:
        async with database.transaction() as connection:
            await reservation_steps.release(connection, [order_id])

    reserving = [reserve(database, item, pinned=True) for item in requests]
    await together([*reserving, *(cancel(item.order_id) for item in requests)])
    assert find_discrepancies(clean_database_url) == []
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT available, reserved FROM stock")
        assert await cursor.fetchall() == [(100, 0)]
