"""Charges on a real database: crashes, races, and idempotency keys that expire."""

import asyncio
import uuid
from dataclasses import replace

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, State
from services.payment.testing import (
    Crash,
    Hook,
    count,
    crash,
    expire_keys,
    sandbox,
)

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"

COUNT_INTENTS = "SELECT count(*) FROM sandbox.intents"
COUNT_CAPTURES = "SELECT count(*) FROM sandbox.movements WHERE type = 'CAPTURE'"
COUNT_CHARGES = "SELECT count(*) FROM transactions WHERE type = 'CHARGE'"

# The points between the steps of a charge. Money moves before "after confirm".
BEFORE_CAPTURE = ["before create_intents", "after create_intents", "before confirm"]
POINTS = [*BEFORE_CAPTURE, "after confirm"]


@pytest.fixture
def charges(database: Database) -> Charges:
    return Charges(database, sandbox(database))


def hooked(database: Database, point: str, hook: Hook) -> Charges:
    return Charges(database, sandbox(database, {point: hook}))


def new_charges(number: int, payment_method: str = "pm_sandbox") -> list[Charge]:
    amount = Amount(12_34, "GBP")
    return [Charge(uuid.uuid4(), amount, payment_method) for _ in range(number)]


async def test_process_returns_payments_in_request_order(
    charges: Charges, clean_database_url: str
) -> None:
    (good, bad, poor, odd, free) = requested = [
        *new_charges(1, "pm_card_visa"),
        *new_charges(1, "pm_card_declined"),
        *new_charges(1, "pm_card_insufficient_funds"),
        *new_charges(1, "pm_unknown"),
        replace(new_charges(1)[0], amount=Amount(0, "GBP")),
    ]
    payments = await charges.process(requested)
    assert [(each.order_id, each.state, each.decline_reason) for each in payments] == [
        (good.order_id, State.SUCCEEDED, ""),
        (bad.order_id, State.DECLINED, "card_declined"),
        (poor.order_id, State.DECLINED, "insufficient_funds"),
        (odd.order_id, State.DECLINED, "unknown_payment_method"),
        (free.order_id, State.SUCCEEDED, ""),
    ]
    assert (payments[4].provider, payments[4].provider_reference) == ("", "")
    assert count(clean_database_url, COUNT_INTENTS) == 4
    assert count(clean_database_url, COUNT_CHARGES) == 1


async def test_process_is_idempotent(charges: Charges, clean_database_url: str) -> None:
    requested = [*new_charges(2), *new_charges(1, "pm_card_declined")]
    first = await charges.process(requested)
    assert await charges.process(requested) == first
    # A declined order stays declined, whatever the next payment method is.
    assert await charges.process(
        [replace(each, payment_method="pm_sandbox") for each in requested]
    ) == (first)
    assert count(clean_database_url, COUNT_CAPTURES) == 2


async def test_process_rejects_another_amount_and_charges_nothing(
    charges: Charges, clean_database_url: str
) -> None:
    (existing,) = new_charges(1)
    await charges.process([existing])
    (new,) = new_charges(1)
    with pytest.raises(errors.InvalidArgument):
        await charges.process([new, replace(existing, amount=Amount(1, "GBP"))])
    assert count(clean_database_url, "SELECT count(*) FROM payments") == 1
    assert count(clean_database_url, COUNT_INTENTS) == 1


@pytest.mark.parametrize("keys_expire", [False, True], ids=["", "keys_expire"])
@pytest.mark.parametrize("point", POINTS)
async def test_process_after_a_crash_captures_once(
    database: Database, charges: Charges, clean_database_url: str, point: str, *, keys_expire: bool
) -> None:
    requested = [*new_charges(3), *new_charges(1, "pm_card_declined")]
    with pytest.raises(Crash):
        await hooked(database, point, crash).process(requested)
    if keys_expire:
        expire_keys(clean_database_url)
    payments = await charges.process(requested)
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 3 + [State.DECLINED]
    assert count(clean_database_url, COUNT_CAPTURES) == 3
    assert count(clean_database_url, COUNT_CHARGES) == 3
    lost = 4 if keys_expire and point == "after create_intents" else 0
    assert count(clean_database_url, COUNT_INTENTS) == 4 + lost


@pytest.mark.parametrize("point", BEFORE_CAPTURE)
async def test_cancel_after_a_crash_before_the_capture_cancels(
    database: Database, charges: Charges, clean_database_url: str, point: str
) -> None:
    requested = new_charges(3)
    with pytest.raises(Crash):
        await hooked(database, point, crash).process(requested)
    cancelled = await charges.cancel([charge.order_id for charge in requested])
    assert [payment.state for payment in cancelled] == [State.CANCELLED] * 3
    assert await charges.process(requested) == cancelled
    assert count(clean_database_url, COUNT_CAPTURES) == 0


async def test_cancel_after_a_crash_after_the_capture_returns_it_succeeded(
    database: Database, charges: Charges
) -> None:
    requested = new_charges(3)
    with pytest.raises(Crash):
        await hooked(database, "after confirm", crash).process(requested)
    payments = await charges.cancel([charge.order_id for charge in requested])
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize("point", ["before cancel", "after cancel"])
async def test_cancel_continues_after_a_crash(
    database: Database, charges: Charges, point: str
) -> None:
    requested = new_charges(1)
    with pytest.raises(Crash):
        await hooked(database, "before confirm", crash).process(requested)
    order_ids = [requested[0].order_id]
    with pytest.raises(Crash):
        await hooked(database, point, crash).cancel(order_ids)
    assert (await charges.cancel(order_ids))[0].state is State.CANCELLED
    assert (await charges.process(requested))[0].state is State.CANCELLED


async def test_a_charge_after_cancel_is_cancelled(
    charges: Charges, clean_database_url: str
) -> None:
    requested = new_charges(2)
    cancelled = await charges.cancel([charge.order_id for charge in requested])
    assert [(payment.state, payment.amount) for payment in cancelled] == [
        (State.CANCELLED, None)
    ] * 2
    assert await charges.process(requested) == cancelled
    assert count(clean_database_url, COUNT_INTENTS) == 0


@pytest.mark.parametrize("point", POINTS)
async def test_a_cancel_during_a_charge_returns_the_same_payments(
    database: Database, charges: Charges, point: str
) -> None:
    requested = new_charges(2)
    cancelled = []

    async def cancel() -> None:
        cancelled.extend(await charges.cancel([charge.order_id for charge in requested]))

    processed = await hooked(database, point, cancel).process(requested)
    assert processed == cancelled
    expected = State.SUCCEEDED if point == "after confirm" else State.CANCELLED
    assert [payment.state for payment in processed] == [expected] * 2


@pytest.mark.parametrize("point", POINTS)
async def test_a_charge_during_another_captures_once(
    database: Database, charges: Charges, clean_database_url: str, point: str
) -> None:
    requested = new_charges(2)

    async def process_meanwhile() -> None:
        await charges.process(requested)
        expire_keys(clean_database_url)

    payments = await hooked(database, point, process_meanwhile).process(requested)
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 2
    assert count(clean_database_url, COUNT_CAPTURES) == 2


async def test_concurrent_calls_for_the_same_orders_charge_once(
    charges: Charges, clean_database_url: str
) -> None:
    requested = new_charges(200)
    for _ in range(5):
        results = await asyncio.gather(
            *(charges.process(list(each)) for each in (requested, reversed(requested)) * 3)
        )
        found = {payment.order_id: payment for payment in results[0]}
        assert all(found[each.order_id] == each for result in results for each in result)
        requested = new_charges(200)
    assert count(clean_database_url, COUNT_CAPTURES) == 1_000
    assert count(clean_database_url, COUNT_CHARGES) == 1_000


async def test_concurrent_charges_and_cancels_agree(charges: Charges) -> None:
    for _ in range(5):
        requested = new_charges(100)
        order_ids = [charge.order_id for charge in requested]
        await asyncio.gather(
            charges.process(requested),
            charges.cancel(order_ids[::-1]),
            charges.process(requested[::-1]),
        )
        payments = await charges.process(requested)
        assert await charges.cancel(order_ids) == payments
        assert {payment.state for payment in payments} <= {State.SUCCEEDED, State.CANCELLED}


async def test_no_transaction_is_open_during_calls_to_the_provider(
    database: Database, clean_database_url: str
) -> None:
    open_transactions: list[int] = []

    async def look() -> None:
        query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        async with await psycopg.AsyncConnection.connect(clean_database_url) as connection:
            cursor = await connection.execute(query + " AND datname = current_database()")
            open_transactions.extend(row[0] for row in await cursor.fetchall())

    for point in ("before create_intents", "before confirm"):
        await hooked(database, point, look).process(new_charges(1))
    assert open_transactions == [0, 0]


async def test_a_thousand_charges_take_as_many_statements_as_one(
    charges: Charges, statements: list[object]
) -> None:
    await charges.process(new_charges(1))
    one = list(statements)
    statements.clear()
    await charges.process(new_charges(1_000))
    assert statements == one
    assert len(one) <= 11
