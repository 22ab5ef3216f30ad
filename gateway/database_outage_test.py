"""A gateway whose own database is frozen, or not there yet: no request waits for it for long."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from gateway.testing import fixtures
from tools.postgres.freezing import find_server, frozen, list_backends

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"
KEY = {"Idempotency-Key": "key"}
SLACK_SECONDS = 1.0

ADD_EXPIRED = """
INSERT INTO idempotency_records (record_id, request_hash, attempt, expire_time)
VALUES (sha256('expired'), sha256(''), uuidv7(), now() - interval '1 hour')
"""


class Setup(fixtures.Setup):
    async def post(self, path: str, body: object, **headers: str) -> tuple[httpx.Response, float]:
        """Return a response, and how many seconds it took."""
        began = time.monotonic()
        response = await self.client.post(path, json=body, headers=KEY | headers, timeout=60)
        return response, time.monotonic() - began


@pytest.fixture
async def setup(clean_database_url: str) -> AsyncIterator[Setup]:
    async with Setup.serve(database_url=clean_database_url) as made:
        await made.post("/v1/probes", {}, **{"Idempotency-Key": "first"})
        made.servicer.calls.clear()
        yield made


def everything(url: str) -> list[int]:
    """Return the server process and its backends: frozen, it starts no new ones either."""
    return [find_server(url), *list_backends(url)]


async def test_request_with_a_key_is_refused_soon_and_nothing_is_done(
    setup: Setup, database_url: str
) -> None:
    with frozen(everything(database_url)):
        response, seconds = await setup.post("/v1/probes", {})
    assert (response.status_code, response.json()["reason"]) == (503, "DATABASE_UNAVAILABLE")
    assert seconds < 2 + SLACK_SECONDS
    assert not setup.servicer.calls


async def test_request_keeps_its_deadline_when_the_database_freezes_before_its_claim(
    setup: Setup, database_url: str
) -> None:
    with frozen(everything(database_url)):
        response, seconds = await setup.post("/v1/probes", {}, **{"Grpc-Timeout": "300m"})
    assert response.status_code == 503
    assert seconds < 0.3 + SLACK_SECONDS


@pytest.mark.parametrize("wait_seconds", [0.5, 60])
async def test_request_keeps_its_deadline_when_the_database_freezes_after_its_claim(
    setup: Setup, database_url: str, wait_seconds: float
) -> None:
    posting = asyncio.create_task(
        setup.post("/v1/waits", {"seconds": wait_seconds}, **{"Grpc-Timeout": "1S"})
    )
    async with asyncio.timeout(10):
        while not setup.servicer.calls:  # noqa: ASYNC110 - it runs in this loop.
            await asyncio.sleep(0.01)
    with frozen(everything(database_url)):
        response, seconds = await posting
    # The request took effect, even if it could not be recorded.
    assert response.status_code == (504 if wait_seconds > 1 else 200)
    assert seconds < 1 + SLACK_SECONDS


async def test_readiness_responds_in_bounded_time_and_recovers(
    setup: Setup, database_url: str
) -> None:
    assert (await setup.client.get("/readyz")).json()["database"]
    with frozen(everything(database_url)):
        # The result from before is kept for a moment.
        async with asyncio.timeout(3):
            while (await setup.client.get("/readyz")).json()["database"]:
                pass
        for _ in range(2):
            began = time.monotonic()
            response = await setup.client.get("/readyz", timeout=60)
            assert (response.status_code, response.json()["database"]) == (503, False)
            assert time.monotonic() - began < 1.5 + SLACK_SECONDS
    async with asyncio.timeout(2):
        while not (await setup.client.get("/readyz")).json()["database"]:
            pass
    assert (await setup.post("/v1/probes", {}))[0].status_code == 200


async def test_sweeping_starts_when_the_table_exists(
    clean_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.dependencies.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("chassis.supervision.MAX_BACKOFF_SECONDS", 0.1)
    connect = psycopg.AsyncConnection.connect(clean_database_url, autocommit=True)
    async with asyncio.timeout(20), await connect as connection:
        await connection.execute("ALTER TABLE idempotency_records RENAME TO not_yet")
        async with Setup.serve(database_url=clean_database_url):
            await asyncio.sleep(0.5)
            await connection.execute("ALTER TABLE not_yet RENAME TO idempotency_records")
            await connection.execute(ADD_EXPIRED)
            query = "SELECT FROM idempotency_records"
            while (await connection.execute(query)).rowcount:
                pass
