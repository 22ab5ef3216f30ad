"""Refunds on a real database: crashes and races."""

import asyncio
import uuid
from collections.abc import Sequence

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from chassis.testing import wait_for_blocked
from services.payment import repository
from services.payment.charges import Charges
from services.payment.domain import Charge, Payment, RefundResult, RefundState
from services.payment.providers.provider import RefundRequest
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.refund import NewRefund, Refund
from services.payment.refunds import Refunds
from services.payment.testing import Crash, count, crash, expire_keys, sandbox

pytest_plugins = ("tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"

POINTS = ["before refund", "after refund"]
COUNT_REFUNDED = "SELECT count(*) FROM sandbox.movements WHERE type = 'REFUND'"
COUNT_REFUNDS = "SELECT count(*) FROM transactions WHERE type = 'REFUND' AND amount_minor = 400"
PART = Amount(4_00, "GBP")


@pytest.fixture
def refunds(database: Database) -> Refunds:
    return Refunds(database, sandbox(database))


@pytest.fixture
async def charged(database: Database) -> Payment:
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    (payment,) = await Charges(database, sandbox(database)).process([charge])
    return payment


def crashing(database: Database, point: str) -> Refunds:
    return Refunds(database, sandbox(database, {point: crash}))


def part(payment: Payment, number: int = 1, amount: Amount = PART) -> NewRefund:
    return NewRefund(payment.order_id, number, amount)


def states(results: Sequence[Refund | errors.Error]) -> list[RefundState]:
    return [each.state for each in results if isinstance(each, Refund)]


async def test_refund_is_written_to_the_ledger(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    assert states(await refunds.refund([part(charged)])) == [RefundState.SUCCEEDED]
    assert count(clean_database_url, COUNT_REFUNDS) == 1
    assert count(clean_database_url, "SELECT refunded_minor FROM payments") == 4_00


async def test_refunds_of_a_batch_are_independent(
    database: Database, refunds: Refunds, charged: Payment
) -> None:
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    (other,) = await Charges(database, sandbox(database)).process([charge])
    missing = NewRefund(uuid.uuid4(), 1, PART)
    results = await refunds.refund(
        [part(charged), missing, part(other), part(charged, 2), part(charged, 3)]
    )
    assert states(results) == [RefundState.SUCCEEDED] * 3 + [RefundState.FAILED]
    assert not isinstance(results[1], Refund)


async def test_refund_is_idempotent(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    first = await refunds.refund([part(charged)])
    assert await refunds.refund([part(charged)]) == first
    assert count(clean_database_url, COUNT_REFUNDED) == 1


@pytest.mark.parametrize("point", POINTS)
async def test_a_refund_repeated_after_a_crash_moves_money_once(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str, point: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, point).refund([part(charged)])
    assert states(await refunds.refund([part(charged)])) == [RefundState.SUCCEEDED]
    assert count(clean_database_url, COUNT_REFUNDED) == 1
    assert count(clean_database_url, COUNT_REFUNDS) == 1


async def test_a_refund_is_found_at_a_provider_that_has_forgotten_its_key(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, "after refund").refund([part(charged), part(charged, 2)])
    expire_keys(clean_database_url)
    found = await refunds.refund([part(charged), part(charged, 2)])
    assert states(found) == [RefundState.SUCCEEDED] * 2
    assert count(clean_database_url, COUNT_REFUNDED) == 2


async def test_an_interrupted_refund_counts_as_refunded(
    database: Database, refunds: Refunds, charged: Payment
) -> None:
    with pytest.raises(Crash):
        await crashing(database, "before refund").refund([part(charged)])
    more = part(charged, 2, Amount(6_01, "GBP"))
    assert states(await refunds.refund([more])) == [RefundState.FAILED]
    assert states(await refunds.refund([part(charged)])) == [RefundState.SUCCEEDED]


async def test_a_refund_that_failed_stays_so_when_more_remains(
    database: Database, charged: Payment
) -> None:
    class Rejecting(SandboxProvider):
        async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
            return [RefundResult(RefundState.FAILED) for _ in requests]

    refunds = Refunds(database, sandbox(database))
    with pytest.raises(Crash):
        await crashing(database, "before refund").refund([part(charged)])
    all_of_it = part(charged, 2, Amount(10_00, "GBP"))
    assert states(await refunds.refund([all_of_it])) == [RefundState.FAILED]
    rejected = await Refunds(database, Providers([Rejecting(database)])).refund([part(charged)])
    assert states(rejected) == [RefundState.FAILED]
    assert states(await refunds.refund([all_of_it, part(charged)])) == [RefundState.FAILED] * 2
    again = part(charged, 3, Amount(10_00, "GBP"))
    assert states(await refunds.refund([again])) == [RefundState.SUCCEEDED]


async def test_a_refund_whose_outcome_is_unknown_stays_pending(
    database: Database, refunds: Refunds, charged: Payment
) -> None:
    class Slow(SandboxProvider):
        async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
            return [RefundResult(RefundState.PENDING) for _ in requests]

    pending = await Refunds(database, Providers([Slow(database)])).refund([part(charged)])
    assert states(pending) == [RefundState.PENDING]
    assert states(await refunds.refund([part(charged)])) == [RefundState.SUCCEEDED]


async def test_concurrent_refunds_never_exceed_the_charge(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    calls = [refunds.refund([part(charged, number)]) for number in range(1, 9)]
    found = [state for outcomes in await asyncio.gather(*calls) for state in states(outcomes)]
    assert sorted(found) == [RefundState.FAILED] * 6 + [RefundState.SUCCEEDED] * 2
    assert count(clean_database_url, COUNT_REFUNDED) == 2


async def test_a_refund_waits_for_an_earlier_one_that_is_not_recorded_yet(
    database: Database, refunds: Refunds, charged: Payment
) -> None:
    earlier = Refund(charged.payment_id, charged.order_id, 1, Amount(6_01, "GBP"))
    async with database.connection() as watching, database.transaction() as holding:
        await repository.get_payments_of_orders(holding, [charged.order_id], lock=True)
        await repository.insert_refunds(holding, [earlier])
        refunding = asyncio.create_task(refunds.refund([part(charged, 2)]))
        await wait_for_blocked(watching)
    assert states(await refunding) == [RefundState.FAILED]


async def test_concurrent_repetitions_of_a_refund_are_one(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    calls = [refunds.refund([part(charged)]) for _ in range(8)]
    found = [state for outcomes in await asyncio.gather(*calls) for state in states(outcomes)]
    assert found == [RefundState.SUCCEEDED] * 8
    assert count(clean_database_url, COUNT_REFUNDED) == 1
    assert count(clean_database_url, COUNT_REFUNDS) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payments SET refunded_minor = 401",
        "UPDATE refunds SET amount_minor = 401",
        "UPDATE refunds SET state = 'FAILED'",
        "INSERT INTO transactions"
        " (payment_id, order_id, type, amount_minor, currency_code, provider_reference)"
        " SELECT payment_id, order_id, 'REFUND', 1, 'GBP', 'x' FROM payments",
    ],
)
async def test_no_transaction_can_leave_the_books_out_of_balance(
    refunds: Refunds, charged: Payment, clean_database_url: str, statement: str
) -> None:
    await refunds.refund([part(charged)])
    with (
        psycopg.connect(clean_database_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="not in balance"),
    ):
        connection.execute(statement.encode())


class SilentProvider(SandboxProvider):
    """Charges, and does not respond to refunds."""

    name = "silent"

    async def refund(self, _: Sequence[RefundRequest]) -> list[RefundResult]:
        raise errors.Unavailable("PROVIDER_UNAVAILABLE", "lost")


async def test_a_provider_that_is_down_does_not_stop_the_refunds_of_another(
    database: Database, clean_database_url: str
) -> None:
    providers = Providers([SandboxProvider(database), SilentProvider(database)])
    charges = [
        Charge(uuid.uuid4(), Amount(10_00, "GBP"), f"{name}:pm_sandbox")
        for name in ("silent", "sandbox")
    ]
    payments = await Charges(database, providers).process(charges)
    outcomes = await Refunds(database, providers).refund([part(each) for each in payments])
    assert states(outcomes) == [RefundState.PENDING, RefundState.SUCCEEDED]
    with psycopg.connect(clean_database_url) as connection:
        # Whose books the audit compares.
        connection.execute("UPDATE payments SET provider = 'sandbox'")
