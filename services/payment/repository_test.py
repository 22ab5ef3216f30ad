"""The SQL of payments on a real database: the order of locks, and constraints."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest

from chassis.database import Connection, Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.payment import domain, repository
from services.payment.domain import Charge, Payment, RefundState, State, TransactionType
from services.payment.refund import Refund
from tools.postgres.testing import read_choices

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "payment"


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection:
        yield connection


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        ("payments", "state", {*State} - {State.REQUIRES_ACTION, State.REQUIRES_CAPTURE}),
        ("refunds", "state", {*RefundState}),
        ("transactions", "type", {*TransactionType}),
        ("sandbox.intents", "state", {*State} - {State.PROCESSING} | {"UNCONFIRMED"}),
    ],
)
def test_the_schema_has_the_states_of_the_domain(
    database_url: str, table: str, column: str, expected: set[str]
) -> None:
    assert read_choices(database_url, table, column) == expected


async def insert_charged(connection: Connection) -> Payment:
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    begun = domain.begin_payment(charge, "sandbox", f"pi_{uuid.uuid4()}")
    payments = await repository.insert_payments(connection, [begun])
    changed = replace(payments[charge.order_id], state=State.SUCCEEDED)
    (payment,) = (await repository.update_payments(connection, [changed])).values()
    await repository.insert_transactions(connection, domain.charge_entries([payment]))
    return payment


async def test_insert_payments_leaves_existing_ones_unchanged(connection: Connection) -> None:
    payment = await insert_charged(connection)
    await repository.insert_payments(connection, [domain.make_tombstone(payment.order_id)])
    found = await repository.get_payments_of_orders(connection, [payment.order_id, uuid.uuid4()])
    assert found == {payment.order_id: payment}


async def insert(connection: Connection, *numbers: int) -> None:
    """Insert payments whose order ids are these numbers."""
    payments = [domain.make_tombstone(uuid.UUID(int=number)) for number in numbers]
    await repository.insert_payments(connection, payments)


async def lock(connection: Connection, *numbers: int) -> None:
    """Lock payments whose order ids are these numbers."""
    order_ids = [uuid.UUID(int=number) for number in numbers]
    await repository.get_payments_of_orders(connection, order_ids, lock=True)


async def lock_in_opposite_orders(database: Database, step: Callable[..., Awaitable[None]]) -> None:
    """Take a step for payment 1, and for payment 2 once another step for both waits for the first.

    Raises:
        ExceptionGroup: of errors.Aborted: the other step had locked payment 2: a deadlock.
    """

    async def take_step_for_both() -> None:
        async with database.transaction() as second:
            await step(second, 2, 1)

    async with (
        database.connection() as watching,
        asyncio.TaskGroup() as tasks,
        database.transaction() as first,
    ):
        await step(first, 1)
        tasks.create_task(take_step_for_both())
        await wait_for_blocked(watching)
        await step(first, 2)


async def test_payments_are_inserted_in_the_order_of_their_order_ids(
    database: Database, connection: Connection
) -> None:
    await lock_in_opposite_orders(database, insert)
    order_ids = [uuid.UUID(int=number) for number in (1, 2)]
    assert set(await repository.get_payments_of_orders(connection, order_ids)) == set(order_ids)


async def test_payments_are_locked_in_the_order_of_their_order_ids(
    database: Database, connection: Connection
) -> None:
    await insert(connection, 1, 2)
    await lock_in_opposite_orders(database, lock)


async def test_update_payments_increments_the_version(connection: Connection) -> None:
    payment = await insert_charged(connection)
    (updated,) = (await repository.update_payments(connection, [payment])).values()
    assert updated.version == payment.version + 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transactions SET amount_minor = 1",
        "DELETE FROM transactions",
        "TRUNCATE transactions",
        "DELETE FROM sandbox.movements",
    ],
)
async def test_the_ledger_is_append_only_for_its_owner_too(
    connection: Connection, clean_database_url: str, statement: LiteralString
) -> None:
    payment = await insert_charged(connection)
    with (
        psycopg.connect(clean_database_url) as administrator,
        pytest.raises(psycopg.errors.RestrictViolation),
    ):
        administrator.execute(statement)
    (transaction,) = await repository.list_transactions(connection, None, None, 10)
    assert transaction.entry == domain.charge_entries([payment])[0]


async def test_the_ledger_rejects_a_second_charge_of_a_payment(connection: Connection) -> None:
    payment = await insert_charged(connection)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await repository.insert_transactions(connection, domain.charge_entries([payment]))


@pytest.mark.parametrize("refunded_minor", [-1, 10_01])
async def test_a_payment_cannot_be_refunded_below_0_or_above_its_amount(
    connection: Connection, refunded_minor: int
) -> None:
    payment = await insert_charged(connection)
    changed = replace(payment, refunded_minor=refunded_minor)
    with pytest.raises(psycopg.errors.CheckViolation):
        await repository.update_payments(connection, [changed])


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.DECLINED, "decline_reason": ""},
        {"state": State.CANCELLED, "refunded_minor": 1},
    ],
    ids=str,
)
async def test_a_payment_cannot_contradict_itself(
    connection: Connection, changes: dict[str, object]
) -> None:
    payment = await insert_charged(connection)
    changed = replace(payment, **changes)  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.CheckViolation):
        await repository.update_payments(connection, [changed])


async def test_a_payment_in_progress_has_an_intent(connection: Connection) -> None:
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    with pytest.raises(psycopg.errors.CheckViolation):
        await repository.insert_payments(connection, [domain.begin_payment(charge, "sandbox", "")])


async def test_two_payments_cannot_share_an_intent(connection: Connection) -> None:
    first = await insert_charged(connection)
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    second = domain.begin_payment(charge, first.provider, first.provider_reference)
    assert await repository.insert_payments(connection, [second]) == {}


async def test_refunds_are_found_by_their_orders_and_numbers(connection: Connection) -> None:
    first, second = await insert_charged(connection), await insert_charged(connection)
    amount = Amount(1_00, "GBP")
    refunds = [
        Refund(first.payment_id, first.order_id, 1, amount),
        Refund(first.payment_id, first.order_id, 2, amount, RefundState.FAILED),
        Refund(second.payment_id, second.order_id, 1, amount),
    ]
    await repository.insert_refunds(connection, refunds)
    keys = [(first.order_id, 2), (second.order_id, 1), (second.order_id, 2)]
    assert await repository.find_refunds(connection, keys) == {
        refund.key: refund for refund in refunds[1:]
    }
    sums = await repository.sum_refunds(connection, [first.order_id, second.order_id])
    assert sums == {first.order_id: 1_00, second.order_id: 1_00}


async def test_list_transactions_begins_after_an_id(connection: Connection) -> None:
    payments = [await insert_charged(connection) for _ in range(3)]
    everything = await repository.list_transactions(connection, None, None, 10)
    assert [each.entry.payment_id for each in everything] == [
        payment.payment_id for payment in payments
    ]
    after = everything[0].transaction_id
    assert await repository.list_transactions(connection, None, after, 1) == everything[1:2]
    of_last = await repository.list_transactions(connection, payments[2].payment_id, after, 10)
    assert of_last == everything[2:]
