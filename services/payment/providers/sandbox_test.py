"""The sandbox satisfies the contract of providers, on a real database."""

import asyncio

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.payment.domain import ChargeResult, RefundResult, RefundState, State
from services.payment.providers.provider import Confirmation, IntentRequest, RefundRequest
from services.payment.providers.sandbox import SandboxProvider

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "payment"

AMOUNT = Amount(10_00, "GBP")


@pytest.fixture
def sandbox(database: Database) -> SandboxProvider:
    return SandboxProvider(database)


def read_movements(url: str) -> list[tuple[str, int]]:
    with psycopg.connect(url) as connection:
        query = "SELECT type, amount_minor FROM sandbox.movements ORDER BY reference"
        return connection.execute(query).fetchall()


async def create(sandbox: SandboxProvider, *keys: str) -> list[str]:
    requests = [IntentRequest(key, key, AMOUNT) for key in keys]
    return [intent.reference for intent in await sandbox.create_intents(requests) if intent]


async def test_an_unconfirmed_intent_moves_no_money(
    sandbox: SandboxProvider, clean_database_url: str
) -> None:
    await create(sandbox, "b", "a")
    assert read_movements(clean_database_url) == []


async def test_create_intents_is_idempotent_by_key(sandbox: SandboxProvider) -> None:
    first = await create(sandbox, "b", "a")
    assert await create(sandbox, "a", "c", "b") == [
        first[1],
        (await create(sandbox, "c"))[0],
        first[0],
    ]


async def test_keys_in_opposite_orders_do_not_deadlock(
    database: Database, sandbox: SandboxProvider
) -> None:
    insert = (
        "INSERT INTO sandbox.intents (idempotency_key, amount_minor, currency_code)"
        " VALUES (%s, 1000, 'GBP') ON CONFLICT DO NOTHING"
    )
    async with (
        database.connection() as watch,
        asyncio.TaskGroup() as tasks,
        database.transaction() as first,
    ):
        await first.execute(insert, ("a",))
        created = tasks.create_task(create(sandbox, "b", "a"))
        await wait_for_blocked(watch)
        # The sandbox waits for this key, and must not have locked the next one.
        await first.execute(insert, ("b",))
    assert created.result() == await create(sandbox, "b", "a")


@pytest.mark.parametrize(
    ("payment_method", "result"),
    [
        ("pm_sandbox", ChargeResult(State.SUCCEEDED)),
        ("pm_card_visa", ChargeResult(State.SUCCEEDED)),
        ("pm_card_declined", ChargeResult(State.DECLINED, "card_declined")),
        ("pm_card_insufficient_funds", ChargeResult(State.DECLINED, "insufficient_funds")),
        ("pm_unknown", ChargeResult(State.DECLINED, "unknown_payment_method")),
    ],
)
async def test_the_first_confirmation_is_final(
    sandbox: SandboxProvider, clean_database_url: str, payment_method: str, result: ChargeResult
) -> None:
    (reference,) = await create(sandbox, "a")
    for method in (payment_method, "pm_sandbox", "pm_card_declined"):
        assert await sandbox.confirm([Confirmation(reference, method)]) == [result]
    assert await sandbox.cancel([reference]) == [result]
    captures = [("CAPTURE", 10_00)] if result.state is State.SUCCEEDED else []
    assert read_movements(clean_database_url) == captures


async def test_a_cancelled_intent_is_not_charged(
    sandbox: SandboxProvider, clean_database_url: str
) -> None:
    (reference,) = await create(sandbox, "a")
    assert await sandbox.cancel([reference]) == [ChargeResult(State.CANCELLED)]
    results = await sandbox.confirm([Confirmation(reference, "pm_sandbox")])
    assert results == [ChargeResult(State.CANCELLED)]
    assert read_movements(clean_database_url) == []


async def test_concurrent_confirmations_capture_once(
    sandbox: SandboxProvider, clean_database_url: str
) -> None:
    references = await create(sandbox, *(f"{number}" for number in range(50)))
    confirmations = [Confirmation(reference, "pm_sandbox") for reference in references]
    batches = (confirmations, confirmations[::-1]) * 3
    await asyncio.gather(*(sandbox.confirm(batch) for batch in batches))
    assert read_movements(clean_database_url) == [("CAPTURE", 10_00)] * 50


async def test_refunds_never_exceed_the_capture(
    sandbox: SandboxProvider, clean_database_url: str
) -> None:
    (reference,) = await create(sandbox, "a")
    await sandbox.confirm([Confirmation(reference, "pm_sandbox")])
    requests = [
        RefundRequest(f"r{number}", reference, reference, number, Amount(minor, "GBP"))
        for number, minor in ((1, 6_00), (2, 5_00), (3, 4_00))
    ]
    first = await sandbox.refund(requests)
    states = [result.state for result in first]
    assert states == [RefundState.SUCCEEDED, RefundState.FAILED, RefundState.SUCCEEDED]
    assert await sandbox.refund(requests) == first
    assert read_movements(clean_database_url)[1:] == [("REFUND", 6_00), ("REFUND", 4_00)]


async def test_an_intent_that_was_not_charged_is_not_refunded(sandbox: SandboxProvider) -> None:
    (reference,) = await create(sandbox, "a")
    results = await sandbox.refund([RefundRequest("r", reference, reference, 1, AMOUNT)])
    assert results == [RefundResult(RefundState.FAILED)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"client_secret": "pi_0"}',
        b'{"client_secret": "pi_\\u0000", "approved": true}',
        b'{"client_secret": "pi_01a1f9fd600f7a1087b38125c04f8453", "approved": "yes"}',
    ],
)
async def test_a_webhook_that_is_no_approval_is_refused(
    sandbox: SandboxProvider, body: bytes
) -> None:
    with pytest.raises(errors.InvalidArgument):
        await sandbox.read_webhook({}, body)
