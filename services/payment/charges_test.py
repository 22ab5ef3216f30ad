"""Charging and cancelling on a real database, through crashes, races and a forgetful provider."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, State
from services.payment.providers.sandbox import SandboxProvider
from services.payment.testing import (
    Crash,
    Hook,
    HookedProvider,
    count,
    crash,
    find_discrepancies,
    forget_keys,
)

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "payment"

COUNT_INTENTS = "SELECT count(*) FROM sandbox.intents"
COUNT_CAPTURES = "SELECT count(*) FROM sandbox.movements WHERE type = 'CAPTURE'"
COUNT_CHARGES = "SELECT count(*) FROM transactions WHERE type = 'CHARGE'"

# The places between the steps of a charge. "after confirm" is after the money moved.
BEFORE_CAPTURE = ["before create_intents", "after create_intents", "before confirm"]
POINTS = [*BEFORE_CAPTURE, "after confirm"]


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    database = Database(clean_database_url)
    await database.open()
    yield database
    await database.close()
    # Whatever a test did: no money was taken that the service does not know of, or the other way.
    assert find_discrepancies(clean_database_url) == []


@pytest.fixture
def charges(database: Database) -> Charges:
    return Charges(database, SandboxProvider(database))


def hooked(database: Database, point: str, hook: Hook) -> Charges:
    return Charges(database, HookedProvider(SandboxProvider(database), {point: hook}))


def new_charges(number: int, payment_method: str = "pm_sandbox") -> list[Charge]:
    amount = Amount(12_34, "GBP")
    return [Charge(uuid.uuid4(), amount, payment_method) for _ in range(number)]


async def test_process_charges_in_the_order_of_the_request(
    charges: Charges, clean_database_url: str
) -> None:
    (good, bad, poor, odd, free) = wanted = [
        *new_charges(1, "pm_card_visa"),
        *new_charges(1, "pm_card_declined"),
        *new_charges(1, "pm_card_insufficient_funds"),
        *new_charges(1, "pm_never_heard_of"),
        replace(new_charges(1)[0], amount=Amount(0, "GBP")),
    ]
    payments = await charges.process(wanted)
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


async def test_process_answers_the_same_again(charges: Charges, clean_database_url: str) -> None:
    wanted = [*new_charges(2), *new_charges(1, "pm_card_declined")]
    first = await charges.process(wanted)
    assert await charges.process(wanted) == first
    # A declined order stays declined, whatever it is tried with next.
    assert await charges.process(
        [replace(each, payment_method="pm_sandbox") for each in wanted]
    ) == (first)
    assert count(clean_database_url, COUNT_CAPTURES) == 2


async def test_process_refuses_another_amount_and_begins_nothing(
    charges: Charges, clean_database_url: str
) -> None:
    (known,) = new_charges(1)
    await charges.process([known])
    (fresh,) = new_charges(1)
    with pytest.raises(errors.InvalidArgument):
        await charges.process([fresh, replace(known, amount=Amount(1, "GBP"))])
    assert count(clean_database_url, "SELECT count(*) FROM payments") == 1
    assert count(clean_database_url, COUNT_INTENTS) == 1


@pytest.mark.parametrize("forgetful", [False, True], ids=["", "forgetful"])
@pytest.mark.parametrize("point", POINTS)
async def test_process_after_a_crash_captures_once(
    database: Database, charges: Charges, clean_database_url: str, point: str, *, forgetful: bool
) -> None:
    wanted = [*new_charges(3), *new_charges(1, "pm_card_declined")]
    with pytest.raises(Crash):
        await hooked(database, point, crash).process(wanted)
    if forgetful:
        forget_keys(clean_database_url)
    payments = await charges.process(wanted)
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 3 + [State.DECLINED]
    assert count(clean_database_url, COUNT_CAPTURES) == 3
    assert count(clean_database_url, COUNT_CHARGES) == 3
    lost = 4 if forgetful and point == "after create_intents" else 0
    assert count(clean_database_url, COUNT_INTENTS) == 4 + lost


@pytest.mark.parametrize("point", BEFORE_CAPTURE)
async def test_cancel_after_a_crash_before_the_capture_cancels(
    database: Database, charges: Charges, clean_database_url: str, point: str
) -> None:
    wanted = new_charges(3)
    with pytest.raises(Crash):
        await hooked(database, point, crash).process(wanted)
    cancelled = await charges.cancel([charge.order_id for charge in wanted])
    assert [payment.state for payment in cancelled] == [State.CANCELLED] * 3
    assert await charges.process(wanted) == cancelled
    assert count(clean_database_url, COUNT_CAPTURES) == 0


async def test_cancel_after_a_crash_after_the_capture_says_that_it_succeeded(
    database: Database, charges: Charges
) -> None:
    wanted = new_charges(3)
    with pytest.raises(Crash):
        await hooked(database, "after confirm", crash).process(wanted)
    payments = await charges.cancel([charge.order_id for charge in wanted])
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize("point", ["before cancel", "after cancel"])
async def test_cancel_goes_on_after_a_crash_of_its_own(
    database: Database, charges: Charges, point: str
) -> None:
    wanted = new_charges(1)
    with pytest.raises(Crash):
        await hooked(database, "before confirm", crash).process(wanted)
    order_ids = [wanted[0].order_id]
    with pytest.raises(Crash):
        await hooked(database, point, crash).cancel(order_ids)
    assert (await charges.cancel(order_ids))[0].state is State.CANCELLED
    assert (await charges.process(wanted))[0].state is State.CANCELLED


async def test_a_charge_that_comes_after_cancel_is_cancelled(
    charges: Charges, clean_database_url: str
) -> None:
    wanted = new_charges(2)
    cancelled = await charges.cancel([charge.order_id for charge in wanted])
    assert [(payment.state, payment.amount) for payment in cancelled] == [
        (State.CANCELLED, None)
    ] * 2
    assert await charges.process(wanted) == cancelled
    assert count(clean_database_url, COUNT_INTENTS) == 0


@pytest.mark.parametrize("point", POINTS)
async def test_a_cancel_in_the_middle_of_a_charge_gets_the_same_answer(
    database: Database, charges: Charges, point: str
) -> None:
    wanted = new_charges(2)
    cancelled = []

    async def cancel() -> None:
        cancelled.extend(await charges.cancel([charge.order_id for charge in wanted]))

    processed = await hooked(database, point, cancel).process(wanted)
    assert processed == cancelled
    expected = State.SUCCEEDED if point == "after confirm" else State.CANCELLED
    assert [payment.state for payment in processed] == [expected] * 2


@pytest.mark.parametrize("point", POINTS)
async def test_a_charge_in_the_middle_of_another_captures_once(
    database: Database, charges: Charges, clean_database_url: str, point: str
) -> None:
    wanted = new_charges(2)

    async def process_meanwhile() -> None:
        await charges.process(wanted)
        forget_keys(clean_database_url)

    payments = await hooked(database, point, process_meanwhile).process(wanted)
    assert [payment.state for payment in payments] == [State.SUCCEEDED] * 2
    assert count(clean_database_url, COUNT_CAPTURES) == 2


async def test_concurrent_calls_for_the_same_orders_charge_once(
    charges: Charges, clean_database_url: str
) -> None:
    wanted = new_charges(200)
    for _ in range(5):
        answers = await asyncio.gather(
            *(charges.process(list(each)) for each in (wanted, reversed(wanted)) * 3)
        )
        found = {payment.order_id: payment for payment in answers[0]}
        assert all(found[each.order_id] == each for answer in answers for each in answer)
        wanted = new_charges(200)
    assert count(clean_database_url, COUNT_CAPTURES) == 1_000
    assert count(clean_database_url, COUNT_CHARGES) == 1_000


async def test_concurrent_charges_and_cancels_agree(charges: Charges) -> None:
    for _ in range(5):
        wanted = new_charges(100)
        order_ids = [charge.order_id for charge in wanted]
        await asyncio.gather(
            charges.process(wanted), charges.cancel(order_ids[::-1]), charges.process(wanted[::-1])
        )
        payments = await charges.process(wanted)
        assert await charges.cancel(order_ids) == payments
        assert {payment.state for payment in payments} <= {State.SUCCEEDED, State.CANCELLED}


async def test_no_transaction_is_open_while_the_provider_is_asked(
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
    charges: Charges, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[object] = []
    execute = psycopg.AsyncCursor.execute

    async def execute_and_note(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(query)
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", execute_and_note)
    await charges.process(new_charges(1))
    one = list(statements)
    statements.clear()
    await charges.process(new_charges(1_000))
    assert statements == one
    assert len(one) <= 12
