"""Giving back on a real database, through crashes and races."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, Payment, RefundOutcome, RefundState
from services.payment.providers.provider import RefundRequest
from services.payment.providers.sandbox import SandboxProvider
from services.payment.refunds import Refunds
from services.payment.testing import Crash, HookedProvider, count, crash, find_discrepancies

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "payment"

POINTS = ["before refund", "after refund"]
COUNT_GIVEN_BACK = "SELECT count(*) FROM sandbox.movements WHERE type = 'REFUND'"
COUNT_REFUNDS = "SELECT count(*) FROM transactions WHERE type = 'REFUND' AND amount_minor = 400"
PART = Amount(4_00, "GBP")


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    database = Database(clean_database_url)
    await database.open()
    yield database
    await database.close()
    # Whatever a test did: both books say the same, and neither gave back more than was charged.
    assert find_discrepancies(clean_database_url) == []


@pytest.fixture
def refunds(database: Database) -> Refunds:
    return Refunds(database, SandboxProvider(database))


@pytest.fixture
async def charged(database: Database) -> Payment:
    charge = Charge(uuid.uuid4(), Amount(10_00, "GBP"), "pm_sandbox")
    (payment,) = await Charges(database, SandboxProvider(database)).process([charge])
    return payment


def crashing(database: Database, point: str) -> Refunds:
    return Refunds(database, HookedProvider(SandboxProvider(database), {point: crash}))


async def test_refund_is_written_to_the_ledger(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    await refunds.refund(charged.payment_id, PART, None)
    assert count(clean_database_url, COUNT_REFUNDS) == 1


async def test_refund_gives_back_parts_and_then_the_rest(
    refunds: Refunds, charged: Payment
) -> None:
    after_part = await refunds.refund(charged.payment_id, PART, None)
    assert after_part.refunded_minor == 4_00
    after_rest = await refunds.refund(charged.payment_id, None, None)
    assert after_rest.refunded_minor == 10_00
    with pytest.raises(errors.FailedPrecondition):
        await refunds.refund(charged.payment_id, None, None)


async def test_refund_gives_back_once_for_an_idempotency_key(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    first = await refunds.refund(charged.payment_id, PART, "r")
    assert await refunds.refund(charged.payment_id, PART, "r") == first
    assert count(clean_database_url, COUNT_GIVEN_BACK) == 1


async def test_refunds_without_an_idempotency_key_are_each_one_of_their_own(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    await refunds.refund(charged.payment_id, PART, None)
    await refunds.refund(charged.payment_id, PART, None)
    assert count(clean_database_url, COUNT_GIVEN_BACK) == 2


@pytest.mark.parametrize("point", POINTS)
async def test_refund_after_a_crash_gives_back_once(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str, point: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, point).refund(charged.payment_id, PART, "r")
    payment = await refunds.refund(charged.payment_id, PART, "r")
    assert payment.refunded_minor == 4_00
    assert count(clean_database_url, COUNT_GIVEN_BACK) == 1


@pytest.mark.parametrize("point", POINTS)
async def test_the_next_refund_finishes_what_a_crash_interrupted(
    database: Database, refunds: Refunds, charged: Payment, point: str
) -> None:
    with pytest.raises(Crash):
        await crashing(database, point).refund(charged.payment_id, PART, None)
    payment = await refunds.refund(charged.payment_id, Amount(6_00, "GBP"), "r")
    assert payment.refunded_minor == 10_00


async def test_an_interrupted_refund_counts_as_given_back(
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
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(error) for error in refused} == {errors.FailedPrecondition}
    assert len(refused) == 6
    assert count(clean_database_url, COUNT_GIVEN_BACK) == 2


async def test_concurrent_refunds_with_one_idempotency_key_give_back_once(
    refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    calls = [refunds.refund(charged.payment_id, PART, "r") for _ in range(8)]
    answers = await asyncio.gather(*calls)
    assert {answer.refunded_minor for answer in answers} == {4_00}
    assert count(clean_database_url, COUNT_GIVEN_BACK) == 1


async def test_what_the_provider_refuses_is_not_given_back(
    database: Database, refunds: Refunds, charged: Payment, clean_database_url: str
) -> None:
    class Refusing(SandboxProvider):
        async def refund(self, requests: Sequence[RefundRequest]) -> list[RefundOutcome]:
            return [RefundOutcome(RefundState.FAILED) for _ in requests]

    for _ in range(2):
        with pytest.raises(errors.FailedPrecondition) as caught:
            await Refunds(database, Refusing(database)).refund(charged.payment_id, PART, "r")
        assert caught.value.reason == "REFUND_FAILED"
    assert (await refunds.refund(charged.payment_id, None, None)).refunded_minor == 10_00
    assert count(clean_database_url, "SELECT count(*) FROM refunds WHERE state = 'FAILED'") == 1


async def test_refund_does_not_find_what_does_not_exist(refunds: Refunds) -> None:
    with pytest.raises(errors.NotFound):
        await refunds.refund(uuid.uuid4(), None, None)
