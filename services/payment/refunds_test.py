"""Refunds on a real database: crashes and races."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, Payment, RefundResult, RefundState
from services.payment.providers.provider import RefundRequest
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.refunds import Refunds
from services.payment.testing import Crash, count, crash, sandbox

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


async def test_refund_is_written_to_the_ledger(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    await refunds.refund(charged.payment_id, PART, None)
    assert count(clean_database_url, COUNT_REFUNDS) == 1


async def test_refund_without_an_amount_refunds_what_remains(
    refunds: Refunds, charged: Payment
) -> None:
    after_part = await refunds.refund(charged.payment_id, PART, None)
    assert after_part.refunded_minor == 4_00
    after_rest = await refunds.refund(charged.payment_id, None, None)
    assert after_rest.refunded_minor == 10_00
    with pytest.raises(errors.FailedPrecondition):
        await refunds.refund(charged.payment_id, None, None)


async def test_refund_is_idempotent_with_an_idempotency_key(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    first = await refunds.refund(charged.payment_id, PART, "r")
    assert await refunds.refund(charged.payment_id, PART, "r") == first
    assert count(clean_database_url, COUNT_REFUNDED) == 1


async def test_refunds_without_an_idempotency_key_are_all_new(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    await refunds.refund(charged.payment_id, PART, None)
    await refunds.refund(charged.payment_id, PART, None)
    assert count(clean_database_url, COUNT_REFUNDED) == 2


@pytest.mark.parametrize("point", POINTS)
async def test_a_refund_repeated_after_a_crash_moves_money_once(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str, point: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, point).refund(charged.payment_id, PART, "r")
    payment = await refunds.refund(charged.payment_id, PART, "r")
    assert payment.refunded_minor == 4_00
    assert count(clean_database_url, COUNT_REFUNDED) == 1


@pytest.mark.parametrize("point", POINTS)
async def test_the_next_refund_completes_an_interrupted_one(
    database: Database, refunds: Refunds, charged: Payment, point: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, point).refund(charged.payment_id, PART, None)
    payment = await refunds.refund(charged.payment_id, Amount(6_00, "GBP"), "r")
    assert payment.refunded_minor == 10_00


async def test_an_interrupted_refund_counts_as_refunded(
    database: Database, refunds: Refunds, charged: Payment
) -> None:
    with pytest.raises(Crash):
        await crashing(database, "before refund").refund(charged.payment_id, PART, "r")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await refunds.refund(charged.payment_id, Amount(6_01, "GBP"), "s")
    assert caught.value.reason == "REFUND_EXCEEDS_PAYMENT"
    assert (await refunds.refund(charged.payment_id, PART, "r")).refunded_minor == 4_00


async def test_concurrent_refunds_never_exceed_the_charge(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    calls = [refunds.refund(charged.payment_id, PART, f"r{number}") for number in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    raised = [result for result in results if isinstance(result, BaseException)]
    assert {type(error) for error in raised} == {errors.FailedPrecondition}
    assert len(raised) == 6
    assert count(clean_database_url, COUNT_REFUNDED) == 2


async def test_concurrent_refunds_with_one_idempotency_key_are_one(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    calls = [refunds.refund(charged.payment_id, PART, "r") for _ in range(8)]
    results = await asyncio.gather(*calls)
    assert {payment.refunded_minor for payment in results} == {4_00}
    assert count(clean_database_url, COUNT_REFUNDED) == 1


async def test_a_refund_that_the_provider_rejects_fails(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    class Rejecting(SandboxProvider):
        async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundResult]:
            return [RefundResult(RefundState.FAILED) for _ in requests]

    rejecting = Refunds(database, Providers([Rejecting(database)], "sandbox"))
    for _ in range(2):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await rejecting.refund(charged.payment_id, PART, "r")
        assert caught.value.reason == "REFUND_FAILED"
    assert (await refunds.refund(charged.payment_id, None, None)).refunded_minor == 10_00
    assert count(clean_database_url, "SELECT count(*) FROM refunds WHERE state = 'FAILED'") == 1


async def test_refund_of_a_missing_payment_is_not_found(refunds: Refunds) -> None:
    with pytest.raises(errors.NotFound):
        await refunds.refund(uuid.uuid4(), None, None)
