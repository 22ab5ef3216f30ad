"""The sandbox satisfies the contract of providers, on a real database."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.payment.domain import ChargeResult, RefundState, State
from services.payment.providers.contract import Bench, ProviderContract, new_request
from services.payment.providers.provider import Confirmation, IntentRequest, RefundRequest
from services.payment.providers.sandbox import ACTION, SandboxProvider
from services.payment.testing import CALLS, expire_keys
from tools.fakes.faults import Faults, Kind

pytest_plugins = ("chassis.testing", "tools.postgres.testing")
DATABASE = "payment"

AMOUNT = Amount(10_00, "GBP")


@pytest.fixture
def sandbox(database: Database) -> SandboxProvider:
    return SandboxProvider(database)


class UnreliableConnection:
    """Loses, doubles and delays the calls of a sandbox, which has no HTTP: as `faults` say."""

    def __init__(self, sandbox: SandboxProvider) -> None:
        self.faults = Faults()
        for name in CALLS:
            setattr(sandbox, name, self._surround(name, getattr(sandbox, name)))

    def _surround(
        self, name: str, call: Callable[[Sequence[Any]], Awaitable[Any]]
    ) -> Callable[[Sequence[Any]], Awaitable[Any]]:
        async def call_with_faults(items: Sequence[Any]) -> Any:
            rule = self.faults.find(name)
            if rule is None:
                return await call(items)
            if rule.kind is Kind.DELAY:
                await asyncio.sleep(rule.delay_seconds)
            if rule.kind in (Kind.LOSE_RESPONSE, Kind.FAIL_AFTER, Kind.DUPLICATE):
                await call(items)
            if rule.kind in (Kind.DELAY, Kind.DUPLICATE):
                return await call(items)
            raise errors.Unavailable("PROVIDER_UNAVAILABLE", f"This is the fault {rule.kind}.")

        return call_with_faults


@pytest.fixture
def bench(sandbox: SandboxProvider, clean_database_url: str) -> Bench:
    async def approve(reference: str) -> None:
        body = json.dumps({"client_secret": reference, "approved": True}).encode()
        await sandbox.read_webhook({}, body)

    def read(query: LiteralString) -> list[int]:
        with psycopg.connect(clean_database_url) as connection:
            return [minor for (minor,) in connection.execute(query)]

    return Bench(
        provider=sandbox,
        faults=UnreliableConnection(sandbox).faults,
        requests={
            "create": "create_intents",
            "confirm": "confirm",
            "authorize": "^$",
            "capture": "capture",
            "cancel": "cancel",
            "refund": "refund",
        },
        approved_method=ACTION,
        approve=approve,
        expire_keys=lambda: expire_keys(clean_database_url),
        captured=lambda: read("SELECT amount_minor FROM sandbox.movements WHERE type = 'CAPTURE'"),
        refunded=lambda: read("SELECT amount_minor FROM sandbox.movements WHERE type = 'REFUND'"),
        count_holds=lambda: len(
            read("SELECT amount_minor FROM sandbox.intents WHERE state = 'REQUIRES_CAPTURE'")
        ),
    )


@pytest.fixture
async def _closed(database: Database) -> None:
    await database.close()


class TestSandbox(ProviderContract):
    @pytest.mark.usefixtures("_closed")
    async def test_nothing_known_of_a_batch_is_unavailable(self, bench: Bench) -> None:
        """What the sandbox can lose is its database."""
        with pytest.raises(errors.Unavailable):
            await bench.provider.create_intents([new_request(), new_request()])


def read_movements(url: str) -> list[tuple[str, int]]:
    with psycopg.connect(url) as connection:
        query = "SELECT type, amount_minor FROM sandbox.movements ORDER BY reference"
        return connection.execute(query).fetchall()


async def create(sandbox: SandboxProvider, *keys: str) -> list[str]:
    requests = [IntentRequest(key, key, AMOUNT) for key in keys]
    return [intent.reference for intent in await sandbox.create_intents(requests) if intent]


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
        RefundRequest(f"r{number}", reference, number, Amount(minor, "GBP"))
        for number, minor in ((1, 6_00), (2, 5_00), (3, 4_00))
    ]
    first = await sandbox.refund(requests)
    states = [result.state for result in first]
    assert states == [RefundState.SUCCEEDED, RefundState.FAILED, RefundState.SUCCEEDED]
    assert await sandbox.refund(requests) == first
    assert read_movements(clean_database_url)[1:] == [("REFUND", 6_00), ("REFUND", 4_00)]


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
