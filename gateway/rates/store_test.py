"""Gateways count together in a real Valkey, and go on without it."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from gateway.rates import store
from gateway.rates.store import STORE_SECONDS
from gateway.testing.fixtures import Sessions, Setup
from gateway.testing.valkey import Valkey, run_valkey

EMAIL = "canary@example.com"
USER = uuid.UUID(int=7)


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
async def valkey(port: int) -> AsyncIterator[Valkey]:
    async with run_valkey(port) as server:
        yield server


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store take longer, as it may on a busy machine."""
    monkeypatch.setattr(store, "STORE_SECONDS", 10.0)


def settings(url: str) -> dict[str, Any]:
    return {"apigateway_rate_limit": "4/day", "apigateway_rate_limit_url": SecretStr(url)}


async def get(setup: Setup) -> int:
    return (await setup.client.get("/v1/probes/7")).status_code


@pytest.mark.usefixtures("patient")
async def test_gateways_count_together(valkey: Valkey) -> None:
    given = settings(valkey.url)
    async with Setup.serve(**given) as one, Setup.serve(**given) as other:
        statuses = [await get(setup) for setup in (one, other, one, other, one, other)]
        assert statuses == [200, 200, 200, 200, 429, 429]
        response = await other.client.get("/v1/probes/7")
        assert response.headers["RateLimit"].startswith('"client-86400s";r=0;t=')
        assert 1 <= int(response.headers["Retry-After"]) <= 86_400


@pytest.mark.usefixtures("patient")
async def test_concurrent_requests_do_not_exceed_the_quota(valkey: Valkey) -> None:
    async with Setup.serve(**settings(valkey.url)) as setup:
        statuses = await asyncio.gather(*(get(setup) for _ in range(20)))
        assert sorted(statuses) == [200] * 4 + [429] * 16


@pytest.mark.usefixtures("patient")
async def test_store_holds_nobody_and_forgets(valkey: Valkey) -> None:
    given = settings(valkey.url) | {"apigateway_account_rate_limit": "9/day"}
    async with Sessions.serve(**given) as sessions:
        token = sessions.servicer.issuer.token(USER)
        await sessions.login(EMAIL, Authorization=f"Bearer {token}")
    keys = await valkey.keys()
    assert len(keys) == 5
    everything = " ".join(keys)
    for secret in (EMAIL, EMAIL.partition("@")[0], token, str(USER), "127.0.0.1"):
        assert secret not in everything
    async with Redis.from_url(valkey.url) as client:
        for key in keys:
            assert 0 < await client.ttl(key) <= 2 * 86_400


async def test_requests_go_on_and_are_counted_in_memory_while_the_store_is_down(
    port: int, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_SECONDS", 0)
    async with Setup.serve(**settings(f"redis://127.0.0.1:{port}/0")) as setup:
        assert [await get(setup) for _ in range(5)] == [200, 200, 200, 200, 429]
        names = [each["event"] for each in events]
        assert names.count("rate_limit_store_unavailable") == 1
        async with run_valkey(port), asyncio.timeout(10):
            while await get(setup) == 429:  # noqa: ASYNC110 - the store is tried again by requests.
                await asyncio.sleep(0.05)
    recovered = [each for each in events if each["event"] == "rate_limit_store_available"]
    assert len(recovered) == 1
    assert recovered[0]["requests_not_counted"] >= 5


async def test_frozen_store_holds_up_few_requests_and_none_for_long(
    valkey: Valkey, events: list[Any]
) -> None:
    async with Setup.serve(**settings(valkey.url)) as setup:
        assert await get(setup) == 200
        valkey.freeze()
        begin = time.monotonic()
        assert await get(setup) == 200
        first = time.monotonic() - begin
        assert STORE_SECONDS * 0.9 <= first < 1
        begin = time.monotonic()
        assert [await get(setup) for _ in range(3)] == [200] * 3
        assert time.monotonic() - begin < 3 * STORE_SECONDS
        valkey.thaw()
        async with asyncio.timeout(10):
            while "rate_limit_store_available" not in [each["event"] for each in events]:
                await get(setup)
                await asyncio.sleep(0.05)
