"""The steps of reservations lock rows in one order, which prevents deadlocks.

Each test locks the first row, waits until a step waits for it, and then locks the other rows. A
step that had locked one of them before would now deadlock.

For so few rows the planner chooses plans that lock in the right order by chance; settings make it
look rows up one by one, in the order of the parameters.
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
from services.product import repository, reservation_steps
from services.product.domain import Details
from services.product.reservation import Line, ReservationRequest
from services.product.returns import Return

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
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
async def requests(database: Database) -> list[ReservationRequest]:
    """Return requests for all products, in descending order of orders and of products."""
    new = [
        repository.NewProduct(Details(f"{n}", "Name", "", (), Amount(1, "GBP"), "", {}), 100)
        for n in range(PRODUCTS)
    ]
    async with database.transaction() as connection:
        products = await repository.insert_products(connection, new)
    lines = tuple(Line(product.product_id, 1) for product in reversed(products))
    return [ReservationRequest(uuid.UUID(int=number), lines) for number in range(ORDERS, 0, -1)]


@asynccontextmanager
async def row_by_row(database: Database) -> AsyncIterator[Connection]:
    async with database.transaction() as connection:
        for setting in _PLAN:
            await connection.execute(f"SET LOCAL {setting} = off")
        yield connection


async def lock_before(
    database: Database,
    first: LiteralString,
    others: LiteralString,
    step: Callable[[Connection], Awaitable[object]],
) -> None:
    """Lock the first row, wait until a step waits for it, and lock the others.

    Raises:
        errors.Aborted: the step had locked one of the others, and the two deadlocked.
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
    database: Database, requests: list[ReservationRequest]
) -> None:
    await lock_before(
        database,
        FIRST_STOCK,
        ALL_STOCK,
        lambda connection: reservation_steps.reserve(connection, requests, pinned=True),
    )


async def test_reserve_inserts_reservations_in_the_order_of_the_orders(
    database: Database, requests: list[ReservationRequest]
) -> None:
    insert: LiteralString = (
        "INSERT INTO reservations (order_id, state)"
        f" SELECT lpad(n::text, 32, '0')::uuid, 'PINNED' FROM generate_series(1, {ORDERS}) AS n"
    )
    await lock_before(
        database,
        insert + " LIMIT 1",
        insert + " OFFSET 1",
        lambda connection: reservation_steps.reserve(connection, requests, pinned=True),
    )


@pytest.fixture
async def order_ids(database: Database, requests: list[ReservationRequest]) -> list[uuid.UUID]:
    """Pin stock, and return the orders, in descending order."""
    async with database.transaction() as connection:
        await reservation_steps.reserve(connection, requests, pinned=True)
    return [request.order_id for request in requests]


async def test_repeated_reserve_locks_reservations_in_the_order_of_the_orders(
    database: Database, requests: list[ReservationRequest], order_ids: list[uuid.UUID]
) -> None:
    assert order_ids
    await lock_before(
        database,
        FIRST_RESERVATION,
        ALL_RESERVATIONS,
        lambda connection: reservation_steps.reserve(connection, requests, pinned=True),
    )


@pytest.mark.parametrize("step", [reservation_steps.commit, reservation_steps.release])
async def test_commit_and_release_lock_reservations_in_the_order_of_the_orders(
    database: Database, order_ids: list[uuid.UUID], step: reservation_steps.Step
) -> None:
    await lock_before(
        database,
        FIRST_RESERVATION,
        ALL_RESERVATIONS,
        lambda connection: step(connection, order_ids),
    )


@pytest.mark.parametrize("step", [reservation_steps.commit, reservation_steps.release])
async def test_commit_and_release_lock_stock_in_the_order_of_the_products(
    database: Database, order_ids: list[uuid.UUID], step: reservation_steps.Step
) -> None:
    await lock_before(
        database, FIRST_STOCK, ALL_STOCK, lambda connection: step(connection, order_ids)
    )


@pytest.mark.parametrize(
    ("first", "others"), [(FIRST_RESERVATION, ALL_RESERVATIONS), (FIRST_STOCK, ALL_STOCK)]
)
async def test_return_locks_reservations_and_stock_in_the_order_of_their_ids(
    database: Database,
    requests: list[ReservationRequest],
    order_ids: list[uuid.UUID],
    first: LiteralString,
    others: LiteralString,
) -> None:
    async with database.transaction() as connection:
        await reservation_steps.commit(connection, order_ids)
    returns = [Return(request.order_id, 1, request.lines) for request in requests]
    await lock_before(
        database,
        first,
        others,
        lambda connection: reservation_steps.return_units(connection, returns),
    )
