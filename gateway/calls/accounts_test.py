"""Requests with tokens of one account are those of one account, also after a refresh."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

import httpx
import psycopg
import pytest

from chassis.token_testing import Forger, Issuer
from gateway.testing.fixtures import Sessions

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"

OTHER = uuid.UUID(int=7)


@asynccontextmanager
async def serve(database_url: str) -> AsyncIterator[Sessions]:
    async with Sessions.serve(database_url=database_url) as sessions:
        yield sessions


def is_header(token: str) -> bool:
    """Return whether a token can be sent at all."""
    return token == token.strip() != "" and token.isprintable() and len(token) < 16_000


async def count(sessions: Sessions, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "key"}
    return await sessions.client.post("/v1/calls:count", json={}, headers=headers)


async def test_refreshed_token_repeats_a_request(clean_database_url: str) -> None:
    async with serve(clean_database_url) as sessions:
        issuer = sessions.servicer.issuer
        tokens = [issuer.token(age_seconds=60), issuer.token(session_id=OTHER), issuer.token()]
        assert len(set(tokens)) == 3
        responses = [await count(sessions, token) for token in tokens]
    assert [response.json() for response in responses] == [{"count": 1}] * 3
    assert responses[-1].headers["Idempotent-Replayed"] == "true"


async def test_nobody_gets_the_response_of_another_account(clean_database_url: str) -> None:
    async with serve(clean_database_url) as sessions:
        issuer = sessions.servicer.issuer
        await count(sessions, issuer.token())
        response = await count(sessions, issuer.token(OTHER))
    assert response.json() == {"count": 2}


async def test_forged_token_gets_the_response_of_nobody(clean_database_url: str) -> None:
    async with serve(clean_database_url) as sessions:
        issuer = sessions.servicer.issuer
        await count(sessions, issuer.token())
        for what, token in Forger(issuer).forge().items():
            if is_header(token):
                response = await count(sessions, token)
                assert "Idempotent-Replayed" not in response.headers, what
        stranger = Issuer().token()
        assert "Idempotent-Replayed" not in (await count(sessions, stranger)).headers
        expired = issuer.token(age_seconds=3_600)
        assert "Idempotent-Replayed" not in (await count(sessions, expired)).headers


async def test_token_that_cannot_be_verified_repeats_its_own_requests(
    clean_database_url: str,
) -> None:
    async with serve(clean_database_url) as sessions:
        sessions.servicer.publishes = False
        sessions.servicer.issuer = Issuer()
        token, other = Issuer().token(), Issuer().token()
        assert (await count(sessions, token)).json() == {"count": 1}
        assert (await count(sessions, token)).headers["Idempotent-Replayed"] == "true"
        assert (await count(sessions, other)).json() == {"count": 2}


async def test_failure_is_recorded_for_accounts_only(clean_database_url: str) -> None:
    """Otherwise anybody could fill the table with requests that fail."""
    async with serve(clean_database_url) as sessions:
        sessions.servicer.counts = False
        for token in ("forged", "forged"):
            response = await count(sessions, token)
            assert response.status_code == 404
            assert "Idempotent-Replayed" not in response.headers
        with psycopg.connect(clean_database_url) as connection:
            assert connection.execute("SELECT * FROM idempotency_records").fetchall() == []
        issuer = sessions.servicer.issuer
        responses = [await count(sessions, issuer.token()) for _ in range(2)]
    assert [response.status_code for response in responses] == [404, 404]
    assert responses[-1].headers["Idempotent-Replayed"] == "true"


async def test_account_has_one_quota_with_all_of_its_tokens() -> None:
    async with Sessions.serve(apigateway_account_rate_limit="2/day") as sessions:
        issuer = sessions.servicer.issuer
        statuses = []
        for user_id in (OTHER, OTHER, OTHER, uuid.UUID(int=8)):
            headers = {"Authorization": f"bearer  {issuer.token(user_id, session_id=uuid.uuid4())}"}
            response = await sessions.client.post("/v1/calls:count", json={}, headers=headers)
            statuses.append(response.status_code)
    assert statuses == [200, 200, 429, 200]


async def test_account_has_one_limit_of_streams_from_all_addresses() -> None:
    proxies = frozenset({ip_network("127.0.0.0/8")})
    given = {"apigateway_trusted_proxies": proxies, "apigateway_max_client_streams": 1}
    async with Sessions.serve(**given) as sessions, AsyncExitStack() as stack:
        issuer = sessions.servicer.issuer
        statuses = []
        callers = (issuer.token(), issuer.token(), issuer.token(OTHER), "forged", "forged")
        for number, token in enumerate(callers):
            headers = {
                "Authorization": f"Bearer {token}",
                "X-Forwarded-For": f"203.0.113.{number}",
            }
            streaming = sessions.client.stream("GET", "/v1/calls:watch", headers=headers)
            statuses.append((await stack.enter_async_context(streaming)).status_code)
    assert statuses == [200, 503, 200, 200, 200]


async def test_response_with_a_secret_is_not_recorded(clean_database_url: str) -> None:
    async with serve(clean_database_url) as sessions:
        responses = [await sessions.login(Idempotency_Key="key") for _ in range(2)]
    tokens = [response.json()["refreshToken"] for response in responses]
    assert tokens == ["refresh-1", "refresh-2"]
    with psycopg.connect(clean_database_url) as connection:
        assert connection.execute("SELECT * FROM idempotency_records").fetchall() == []


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_key_is_checked_where_it_is_not_recorded(key: str) -> None:
    async with Sessions.serve() as sessions:
        response = await sessions.login(Idempotency_Key=key)
    assert response.json()["reason"] == "INVALID_IDEMPOTENCY_KEY"
