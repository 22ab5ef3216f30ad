"""The SQL of orders on a real database: concurrency, and numbers of statements."""

import asyncio
import uuid
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from chassis.database import Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.order import domain, queue_repository, repository
from services.order.domain import Line, NewOrder, Order, Payment, PaymentState, State
from services.order.event import Cause
from services.order.failure import Failure
from services.order.testing import read
from tools.postgres.testing import read_choices

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "order"

USER = uuid.UUID(int=8)
LAMP, BULB = uuid.UUID(int=1), uuid.UUID(int=2)
PRICES = {LAMP: Amount(300, "GBP"), BULB: Amount(199, "GBP")}
PAYMENT = Payment(uuid.UUID(int=9), PaymentState.SUCCEEDED, "")


def new_orders(
    count: int, lines: tuple[Line, ...] = (Line(LAMP, 2), Line(BULB, 5))
) -> list[NewOrder]:
    return [NewOrder(USER, f"key {number}", "pm_card_visa", lines) for number in range(count)]


async def accept(database: Database, orders: list[NewOrder]) -> list[Order]:
    async with database.transaction() as connection:
        new, existing = await repository.accept_orders(connection, orders)
    return [(new | existing)[order.key] for order in orders]


async def save(database: Database, orders: list[Order]) -> list[Order]:
    async with database.transaction() as connection:
        return await repository.save_orders(connection, orders, Cause.CLIENT)


async def get(database: Database, order: Order) -> Order:
    async with database.connection() as connection:
        return await repository.get_order(connection, order.order_id)


def test_the_schema_has_the_states_of_the_domain(database_url: str) -> None:
    assert read_choices(database_url, "orders", "state") == set(State)


async def test_accept_orders_stores_every_field(database: Database) -> None:
    orders = await accept(database, new_orders(3))
    assert [order.idempotency_key for order in orders] == ["key 0", "key 1", "key 2"]
    assert {order.state for order in orders} == {State.PENDING}
    assert [await get(database, order) for order in orders] == orders


async def test_order_ids_ascend_in_request_order_whatever_the_keys(database: Database) -> None:
    order_ids = [order.order_id for order in await accept(database, new_orders(3)[::-1])]
    assert order_ids == sorted(order_ids)


async def test_accept_orders_returns_the_existing_order_of_a_key(database: Database) -> None:
    first = await accept(database, new_orders(2))
    other = replace(new_orders(3)[1], payment_method="pm_sandbox")
    again = await accept(database, [new_orders(1)[0], other, new_orders(3)[2]])
    assert again[:2] == first
    assert again[2].idempotency_key == "key 2"


async def test_accept_orders_waits_for_a_concurrent_transaction_with_the_key(
    database: Database,
) -> None:
    """The second returns the order of the first, which its insert did not see."""
    async with database.transaction() as connection:
        first, _ = await repository.accept_orders(connection, new_orders(1))
        second = asyncio.create_task(accept(database, new_orders(2)))
        await wait_for_lock(database)
    assert (await second)[0] == first[USER, "key 0"]


async def test_accept_orders_never_deadlocks(database: Database) -> None:
    """A transaction that waits for a key has locked none that sorts after it."""
    first, second = new_orders(2)
    async with database.transaction() as connection:
        accepted, _ = await repository.accept_orders(connection, [first])
        late = asyncio.create_task(accept(database, [second, first]))
        await wait_for_lock(database)
        also_accepted, _ = await repository.accept_orders(connection, [second])
    assert await late == [also_accepted[second.key], accepted[first.key]]


async def test_save_orders_stores_every_field(database: Database) -> None:
    (order,) = await accept(database, new_orders(1))
    (reserved,) = await save(database, [domain.reserve(order, PRICES)])
    assert reserved.version == order.version + 1
    assert reserved.update_time > order.update_time
    assert await get(database, order) == reserved
    (cancelling,) = await save(database, [domain.request_cancel(reserved)])
    assert await get(database, order) == cancelling
    (confirmed,) = await save(database, [domain.settle(cancelling, PAYMENT)])
    assert await get(database, order) == confirmed


async def test_save_orders_omits_orders_that_were_changed_meanwhile(database: Database) -> None:
    orders = await accept(database, new_orders(3))
    await save(database, [domain.reserve(orders[1], PRICES)])
    saved = await save(database, [domain.request_cancel(order) for order in orders])
    assert {order.order_id for order in saved} == {orders[0].order_id, orders[2].order_id}
    assert (await get(database, orders[1])).state is State.PAYING


async def test_save_orders_loses_to_a_concurrent_transaction(database: Database) -> None:
    orders = await accept(database, new_orders(2))
    async with database.transaction() as connection:
        reserved = domain.reserve(orders[0], PRICES)
        await repository.save_orders(connection, [reserved], Cause.CLIENT)
        late = asyncio.create_task(
            save(database, [domain.request_cancel(order) for order in orders])
        )
        await wait_for_lock(database)
    assert [order.order_id for order in await late] == [orders[1].order_id]
    assert (await get(database, orders[0])).state is State.PAYING


async def test_concurrent_save_orders_in_any_order_never_deadlocks(database: Database) -> None:
    orders = await accept(database, new_orders(200))
    reserved = [domain.reserve(order, PRICES) for order in orders]
    parts = (reserved, reserved[::-1], reserved[100:] + reserved[:100])
    saved = await asyncio.gather(*(save(database, part) for part in parts))
    assert sum(len(part) for part in saved) == 200


async def test_every_change_of_an_order_is_one_event(
    database: Database, clean_database_url: str
) -> None:
    (order,) = await accept(database, new_orders(1))
    (order,) = await save(database, [domain.reserve(order, PRICES)])
    (order,) = await save(database, [domain.request_cancel(order)])
    confirmed = domain.settle(order, PAYMENT)
    await asyncio.gather(*(save(database, [confirmed]) for _ in range(5)))
    query = "SELECT version, state, cause, details FROM order_events ORDER BY xact_id, event_id"
    assert read(clean_database_url, query) == [
        (1, "PENDING", "CLIENT", {}),
        (2, "PAYING", "CLIENT", {}),
        (3, "CANCELLING", "CLIENT", {"refusal_reason": "ORDER_CANCELLED"}),
        (4, "CONFIRMED", "CLIENT", {}),
    ]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE order_events SET state = 'X'", "DELETE FROM order_events", "TRUNCATE order_events"],
)
async def test_the_log_of_events_is_append_only_for_its_owner_too(
    database: Database, clean_database_url: str, statement: LiteralString
) -> None:
    await accept(database, new_orders(1))
    with (
        psycopg.connect(clean_database_url) as administrator,
        pytest.raises(psycopg.errors.RestrictViolation),
    ):
        administrator.execute(statement)


async def test_only_active_orders_are_due(database: Database, clean_database_url: str) -> None:
    query = "SELECT state, next_at <= now(), lease_until > now() FROM orders"
    (order,) = await accept(database, new_orders(1))
    assert read(clean_database_url, query) == [("PENDING", True, True)]
    (order,) = await save(database, [domain.request_cancel(order)])
    assert read(clean_database_url, query) == [("CANCELLING", True, True)]
    await save(database, [domain.transition(order, State.CANCELLED)])
    assert read(clean_database_url, query) == [("CANCELLED", None, None)]


async def test_list_sizes_is_newest_first(database: Database) -> None:
    orders = await accept(database, new_orders(2) + new_orders(3, (Line(LAMP, 1),))[2:])
    sizes = [(orders[2].order_id, 1), (orders[1].order_id, 2), (orders[0].order_id, 2)]
    async with database.connection() as connection:
        assert await repository.list_sizes(connection, USER, None, 9) == sizes
        assert await repository.list_sizes(connection, USER, None, 2) == sizes[:2]
        assert await repository.list_sizes(connection, USER, sizes[0][0], 9) == sizes[1:]
        assert await repository.list_sizes(connection, uuid.UUID(int=0), None, 9) == []


async def test_1000_orders_take_a_constant_number_of_statements(
    database: Database, statements: list[object]
) -> None:
    orders = await accept(database, new_orders(1_000))
    assert len(statements) == 2
    reserved = await save(database, [domain.reserve(order, PRICES) for order in orders])
    assert len(statements) == 3
    await save(database, [domain.request_cancel(order) for order in reserved])
    assert len(statements) == 4
    await accept(database, new_orders(1_000))
    assert len(statements) == 6


async def test_orders_that_are_stuck_are_found_by_the_index_of_those_under_way(
    clean_database_url: str,
) -> None:
    scans: LiteralString = (
        "SELECT pg_stat_get_xact_numscans('orders'::regclass),"
        " pg_stat_get_xact_numscans('orders_next_at_idx'::regclass)"
    )
    # Only an owner may run ANALYZE.
    async with (
        await psycopg.AsyncConnection.connect(clean_database_url) as connection,
        connection.transaction(force_rollback=True),
    ):
        await connection.execute(
            "INSERT INTO orders (user_id, idempotency_key, request_hash, payment_method, state,"
            " next_at, total_minor, currency_code, payment_id)"
            " SELECT uuidv7(), 'k', sha256('x'), 'pm', 'CONFIRMED', NULL, 1, 'GBP', uuidv7()"
            " FROM generate_series(1, 10000)"
        )
        await connection.execute("ANALYZE orders")
        ((before, _),) = await (await connection.execute(scans)).fetchall()
        assert await queue_repository.count_stuck(connection) == (0, None)
        assert await queue_repository.list_stuck(connection, None, 101) == []
        assert await (await connection.execute(scans)).fetchall() == [(before, 2)]


async def test_an_order_that_only_ran_out_of_time_keeps_its_failure(database: Database) -> None:
    (order,) = await accept(database, new_orders(1))
    failures = (Failure("ValueError: x", is_defect=True), None)
    query = "SELECT failure, failing_since FROM orders"
    found = []
    async with database.connection() as connection:
        for failure in failures:
            await queue_repository.postpone(connection, {order.order_id: failure})
            found += await (await connection.execute(query)).fetchall()
    assert found[0] == found[1]
    assert found[0][0] == "ValueError: x"
    assert found[0][1] is not None


async def wait_for_lock(database: Database) -> None:
    async with database.connection() as watching:
        await wait_for_blocked(watching)
