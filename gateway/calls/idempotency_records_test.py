"""The records of Idempotency-Key: claims and leases, also of a gateway that dies."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from chassis.database import Database
from gateway.calls import idempotency
from gateway.calls.idempotency import Claim, IdempotencyRecords, make_claim
from gateway.calls.responses import Response
from gateway.http.problems import Problem
from tools.postgres.testing import app_url, connect

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLAIM = make_claim("POST", "/v1/things", "", "key", b"request")
LEASE_SECONDS = idempotency.LEASE_SECONDS
LONG_LEASE_SECONDS = 30.0
INSERT_EXPIRED = (
    "INSERT INTO idempotency_records (record_id, request_hash, attempt, expire_time)"
    " SELECT sha256(n::text::bytea), sha256(''), uuidv7(), now() - interval '1 hour'"
    " FROM generate_series(1, %s) AS n"
)


@pytest_asyncio.fixture(loop_scope="module")
async def records(clean_database_url: str) -> AsyncIterator[IdempotencyRecords]:
    database = Database(app_url(clean_database_url))
    await database.open()
    yield IdempotencyRecords(database, retention_seconds=60)
    await database.close()


@pytest.fixture(autouse=True)
def long_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have claims outlast their tests, however busy this machine is."""
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", LONG_LEASE_SECONDS)


def count(url: str, condition: str = "true") -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM idempotency_records WHERE {condition}".encode()
        ).fetchone()
    assert row is not None
    return int(row[0])


async def perform() -> Response:
    return Response(200, b"first", {"Content-Type": "text/plain"})


async def never() -> Response:
    raise AssertionError("performed twice")


async def hold(records: IdempotencyRecords) -> asyncio.Task[Response]:
    """Claim the key, and perform until the task is cancelled."""
    claimed = asyncio.Event()

    async def forever() -> Response:
        claimed.set()
        await asyncio.sleep(60)
        return Response(200, b"late")

    task = asyncio.create_task(records.perform_once(CLAIM, forever))
    await claimed.wait()
    return task


async def test_claim_whose_gateway_died_is_taken_over_after_its_lease(
    records: IdempotencyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.2)
    dead = await hold(records)
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", LONG_LEASE_SECONDS)
    response = await records.perform_once(CLAIM, perform)
    assert response.body == b"first"
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    # The former owner released its claim late, and the record of the new owner is still there.
    assert (await records.perform_once(CLAIM, never)).body == b"first"


async def test_request_that_is_repeated_after_its_gateway_died_is_performed(
    records: IdempotencyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", LEASE_SECONDS)
    dead = await hold(records)
    assert (await records.perform_once(CLAIM, perform)).body == b"first"
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)


async def test_claim_that_is_renewed_outlasts_its_lease(
    records: IdempotencyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.25)
    running = await hold(records)
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", LONG_LEASE_SECONDS)
    await records.renew()
    with pytest.raises(Problem) as caught:
        await records.perform_once(CLAIM, never)
    assert caught.value.reason == "IDEMPOTENCY_KEY_IN_USE"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_claim_within_its_lease_is_not_taken_over(records: IdempotencyRecords) -> None:
    running = await hold(records)
    with pytest.raises(Problem) as caught:
        await records.perform_once(CLAIM, never)
    assert caught.value.status == 409
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_released_key_does_not_repeat_its_former_response(
    clean_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0)
    database = Database(app_url(clean_database_url))
    await database.open()
    brief = IdempotencyRecords(database, retention_seconds=0)
    await brief.perform_once(CLAIM, perform)
    running = await hold(brief)
    with pytest.raises(Problem) as caught:
        await brief.perform_once(CLAIM, never)
    assert caught.value.reason == "IDEMPOTENCY_KEY_IN_USE"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()


async def test_cancelled_request_releases_the_key(records: IdempotencyRecords) -> None:
    running = await hold(records)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await records.perform_once(CLAIM, perform)).body == b"first"


async def test_record_expires_and_is_swept(clean_database_url: str) -> None:
    database = Database(app_url(clean_database_url))
    await database.open()
    brief = IdempotencyRecords(database, retention_seconds=0)
    for number in range(3):
        claim = Claim(bytes([number] * 32), b"h" * 32)
        await brief.perform_once(claim, perform)
    running = await hold(IdempotencyRecords(database, retention_seconds=60))
    assert count(clean_database_url) == 4
    assert await brief.sweep() == 3
    assert count(clean_database_url, "status IS NULL") == count(clean_database_url) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()


async def test_gateways_perform_a_request_once(
    records: IdempotencyRecords, clean_database_url: str
) -> None:
    performed = []

    async def perform_slowly() -> Response:
        performed.append(1)
        await asyncio.sleep(0.1)
        return await perform()

    database = Database(app_url(clean_database_url))
    await database.open()
    gateways = (records, IdempotencyRecords(database, retention_seconds=60))
    requests = [each.perform_once(CLAIM, perform_slowly) for each in 3 * gateways]
    assert {response.body for response in await asyncio.gather(*requests)} == {b"first"}
    assert len(performed) == 1
    await database.close()


async def test_sweep_waits_for_no_other_gateway_and_deletes_no_new_claim(
    records: IdempotencyRecords, clean_database_url: str
) -> None:
    """Another gateway sweeps as well, and a third one claims a record that has expired."""
    with psycopg.connect(clean_database_url) as sweeping, sweeping.cursor() as cursor:
        cursor.execute(INSERT_EXPIRED, (4,))
        sweeping.commit()
        cursor.execute("SELECT FROM idempotency_records LIMIT 1 FOR UPDATE")
        with psycopg.connect(clean_database_url) as claiming:
            claiming.execute(
                "UPDATE idempotency_records SET expire_time = now() + interval '1 hour'"
                " WHERE attempt IN (SELECT attempt FROM idempotency_records"
                " ORDER BY attempt DESC LIMIT 1)"
            )
            assert await records.sweep() == 2
    assert await records.sweep() == 1
    assert count(clean_database_url) == 1


async def test_records_are_found_while_the_table_is_expanded(
    records: IdempotencyRecords, clean_database_url: str
) -> None:
    claims = [make_claim("POST", "/v1/things", "", f"key-{number}", b"x") for number in range(12)]
    # Often enough for psycopg to have prepared the statements.
    for claim in claims[:6]:
        await records.perform_once(claim, perform)
        await records.perform_once(claim, never)
    administrator = connect(clean_database_url)
    administrator.execute("ALTER TABLE idempotency_records ADD next_note text NOT NULL DEFAULT ''")
    administrator.execute("UPDATE idempotency_records SET next_note = 'set'")
    for claim in claims[6:]:
        await records.perform_once(claim, perform)
    for claim in claims:
        assert (await records.perform_once(claim, never)).body == b"first"
    assert count(clean_database_url, "next_note = 'set'") == 6
    administrator.execute("ALTER TABLE idempotency_records DROP next_note")
