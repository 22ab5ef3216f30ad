"""The steps of the order protocol lock rows in one order, so that they never deadlock.

Each test holds the first row of all, waits until a step stands behind it, and then takes the other
rows: a step that had taken one of them before would now be waited for, and wait itself.

At the size of a test the planner comes to the right order by itself, so it is told to look rows up
one by one, in the order in which they are asked for.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import LiteralString

import pytest

from chassis.database import Connection, Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.product import protocol, repository
from services.product.domain import Details
from services.product.reservation import Demand, Line

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "product"
PRODUCTS = 50
ORDERS = 5

_PLAN: tuple[LiteralString, ...] = (
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_seqscan",
    "enable_sort",
)


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    opened = Database(clean_database_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def demands(database: Database) -> list[Demand]:
    """Orders over all products, the last order and the last product first."""
    new = [
        (Details(f"{n}", "Name", "", (), Amount(1, "GBP"), "", {}), 100) for n in range(PRODUCTS)
    ]
    async with database.transaction() as connection:
        products = await repository.insert_products(connection, new)
    lines = tuple(Line(product.product_id, 1) for product in reversed(products))
    return [Demand(uuid.UUID(int=number), lines) for number in range(ORDERS, 0, -1)]


@asynccontextmanager
async def row_by_row(database: Database) -> AsyncIterator[Connection]:
    async with database.transaction() as connection:
        for setting in _PLAN:
            await connection.execute(f"SET LOCAL {setting} = off")
        yield connection


async def stand_behind(
    database: Database,
    first: LiteralString,
    others: LiteralString,
    step: Callable[[Connection], Awaitable[object]],
) -> None:
    """Take the first row, let a step come to it, then take the others.

    Raises:
        errors.Aborted: the step had one of the others already, and the two deadlocked.
    """

    async def take_step() -> None:
        async with row_by_row(database) as connection:
            await step(connection)

    async with database.connection() as watching, database.transaction() as holding:
        await holding.execute(first)
        stepping = asyncio.create_task(take_step())
        await wait_for_blocked(watching)
        await holding.execute(others)
    await stepping


FIRST_STOCK: LiteralString = "SELECT FROM stock ORDER BY product_id LIMIT 1 FOR UPDATE"
ALL_STOCK: LiteralString = "SELECT FROM stock FOR UPDATE"
FIRST_RESERVATION: LiteralString = "SELECT FROM reservations ORDER BY order_id LIMIT 1 FOR UPDATE"
ALL_RESERVATIONS: LiteralString = "SELECT FROM reservations FOR UPDATE"


async def test_reserve_locks_stock_in_the_order_of_the_products(
    database: Database, demands: list[Demand]
) -> None:
    await stand_behind(
        database,
        FIRST_STOCK,
        ALL_STOCK,
        lambda connection: protocol.reserve(connection, demands, pinned=True),
    )


async def test_reserve_inserts_reservations_in_the_order_of_the_orders(
    database: Database, demands: list[Demand]
) -> None:
    insert: LiteralString = (
        "INSERT INTO reservations (order_id, state)"
        f" SELECT lpad(n::text, 32, '0')::uuid, 'PINNED' FROM generate_series(1, {ORDERS}) AS n"
    )
    await stand_behind(
        database,
        insert + " LIMIT 1",
        insert + " OFFSET 1",
        lambda connection: protocol.reserve(connection, demands, pinned=True),
    )


@pytest.fixture
async def order_ids(database: Database, demands: list[Demand]) -> list[uuid.UUID]:
    """Orders whose stock is pinned, the last one first."""
    async with database.transaction() as connection:
        await protocol.reserve(connection, demands, pinned=True)
    return [demand.order_id for demand in demands]


async def test_reserve_again_locks_reservations_in_the_order_of_the_orders(
    database: Database, demands: list[Demand], order_ids: list[uuid.UUID]
) -> None:
    assert order_ids
    await stand_behind(
        database,
        FIRST_RESERVATION,
        ALL_RESERVATIONS,
        lambda connection: protocol.reserve(connection, demands, pinned=True),
    )


@pytest.mark.parametrize("step", [protocol.commit, protocol.release])
async def test_commit_and_release_lock_reservations_in_the_order_of_the_orders(
    database: Database, order_ids: list[uuid.UUID], step: protocol.Step
) -> None:
    await stand_behind(
        database,
        FIRST_RESERVATION,
        ALL_RESERVATIONS,
        lambda connection: step(connection, order_ids),
    )


@pytest.mark.parametrize("step", [protocol.commit, protocol.release])
async def test_commit_and_release_lock_stock_in_the_order_of_the_products(
    database: Database, order_ids: list[uuid.UUID], step: protocol.Step
) -> None:
    await stand_behind(
        database, FIRST_STOCK, ALL_STOCK, lambda connection: step(connection, order_ids)
    )
