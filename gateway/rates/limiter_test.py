"""Requests beyond a quota are 429: of a client, of an account, and of the callers of an RPC."""

import asyncio
import uuid
from functools import partial
from ipaddress import ip_network

import httpx
import pytest
from limits import parse
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from chassis.token_testing import Issuer
from gateway.rates.memory import BoundedMemoryStorage
from gateway.rates.quotas import Subject, digest, parse_quotas
from gateway.rates.store import Counters
from gateway.testing.fixtures import Sessions, Setup

SPELLINGS = (
    "max@münchen.example",
    " Max@MÜNCHEN.example ",
    "max@mu\u0308nchen.example",
    "max@xn--mnchen-3ya.example",
    "max@XN--MNCHEN-3YA.EXAMPLE",
    "\uff4dax@\uff4dünchen.example",
    "max\uff20münchen\u3002example",
    "max@mün\u00adchen\uff61example",
)
BEHIND_PROXY = {"apigateway_trusted_proxies": frozenset({ip_network("127.0.0.0/8")})}


def check_refusal(response: httpx.Response) -> None:
    assert response.status_code == 429
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (problem["code"], problem["reason"]) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert 1 <= int(response.headers["Retry-After"]) <= 86_400


async def count(
    sessions: Sessions, user_id: uuid.UUID | None, address: str = "203.0.113.9"
) -> httpx.Response:
    """Call the RPC that counts its calls, as a user or as nobody."""
    headers = {"X-Forwarded-For": address}
    if user_id is not None:
        headers["Authorization"] = f"Bearer {sessions.servicer.issuer.token(user_id)}"
    return await sessions.client.post("/v1/calls:count", json={}, headers=headers)


async def test_client_beyond_its_quota_is_refused_before_any_call() -> None:
    async with Setup.serve(apigateway_rate_limit="3/day") as setup:
        for _ in range(3):
            assert (await setup.client.get("/v1/probes/7")).status_code == 200
        setup.servicer.calls.clear()
        check_refusal(await setup.client.get("/v1/probes/7"))
        check_refusal(await setup.client.get("/v1/probes:watch?count=1"))
        check_refusal(await setup.client.get("/nowhere"))
        assert setup.servicer.calls == []


async def test_health_has_no_quota() -> None:
    async with Setup.serve(apigateway_rate_limit="1/day") as setup:
        check_refusals = [await setup.client.get("/v1/probes/7") for _ in range(2)]
        assert [each.status_code for each in check_refusals] == [200, 429]
        for path in ("/healthz", "/readyz"):
            response = await setup.client.get(path)
            assert response.status_code in (200, 503)
            assert "RateLimit" not in response.headers


async def test_responses_tell_what_is_left_of_each_quota() -> None:
    async with Setup.serve(apigateway_rate_limit="5/hour; 9/day") as setup:
        response = await setup.client.get("/v1/probes/7")
        assert response.headers["RateLimit-Policy"] == (
            '"client-3600s";q=5;w=3600, "client-86400s";q=9;w=86400'
        )
        hour, day = response.headers["RateLimit"].split(", ")
        assert hour.startswith('"client-3600s";r=4;t=')
        assert day.startswith('"client-86400s";r=8;t=')
        assert 1 <= int(hour.rpartition("=")[2]) <= 3_600
        assert (await setup.client.get("/nowhere")).headers["RateLimit"]


async def test_without_quotas_there_are_no_headers() -> None:
    async with Setup.serve(apigateway_rate_limit="", apigateway_account_rate_limit="") as setup:
        response = await setup.client.get("/v1/probes/7")
        assert "RateLimit" not in response.headers
        assert "RateLimit-Policy" not in response.headers


@pytest.mark.parametrize(
    ("others", "status"),
    [
        ("203.0.113.2", 200),
        ("2001:db8:0:2::1", 200),
        ("203.0.113.1", 429),
        ("2001:db8:0:1:ffff::9", 429),
    ],
)
async def test_quota_is_of_one_address_or_one_ipv6_network(others: str, status: int) -> None:
    async with Setup.serve(apigateway_rate_limit="1/day", **BEHIND_PROXY) as setup:
        for address in ("203.0.113.1", "2001:db8:0:1::1"):
            headers = {"X-Forwarded-For": address}
            assert (await setup.client.get("/v1/probes/7", headers=headers)).status_code == 200
        response = await setup.client.get("/v1/probes/7", headers={"X-Forwarded-For": others})
        assert response.status_code == status


async def test_account_has_one_quota_from_all_addresses() -> None:
    async with Sessions.serve(apigateway_account_rate_limit="2/day", **BEHIND_PROXY) as sessions:
        for number in range(3):
            response = await count(sessions, uuid.UUID(int=1), address=f"203.0.113.{number}")
        check_refusal(response)
        for other in (uuid.UUID(int=2), None):
            assert (await count(sessions, other)).status_code == 200


async def test_credentials_that_are_not_valid_are_no_account() -> None:
    """Otherwise anybody could begin as many counters as there are invalid tokens."""
    async with Sessions.serve(apigateway_account_rate_limit="1/day") as sessions:
        for token in ("one", "one", Issuer().token()):
            headers = {"Authorization": f"Bearer {token}"}
            response = await sessions.client.post("/v1/calls:count", json={}, headers=headers)
            assert response.status_code == 200
            assert "account" not in response.headers["RateLimit-Policy"]


async def test_account_has_the_quota_of_an_rpc_from_all_addresses() -> None:
    async with Sessions.serve(**BEHIND_PROXY) as sessions:
        for number in range(6):
            response = await count(sessions, uuid.UUID(int=1), address=f"203.0.113.{number}")
        check_refusal(response)
        assert '"CountCalls-account-86400s";q=5;w=86400' in response.headers["RateLimit-Policy"]
        assert len(sessions.servicer.requests) == 5
        assert (await count(sessions, uuid.UUID(int=2))).status_code == 200
        anybody = [await count(sessions, None) for _ in range(6)]
        assert {response.status_code for response in anybody} == {200}


async def test_rpc_has_the_quota_of_its_option() -> None:
    async with Sessions.serve() as sessions:
        for number in range(5):
            assert (await sessions.login(f"{number}@example.com")).status_code == 200
        refused = await sessions.login("other@example.com")
        check_refusal(refused)
        assert '"Login-client-86400s";q=5;w=86400' in refused.headers["RateLimit-Policy"]
        assert len(sessions.servicer.requests) == 5
        assert (await sessions.client.post("/v1/calls:count", json={})).status_code == 200


async def test_quotas_of_methods_can_be_turned_off() -> None:
    async with Sessions.serve(apigateway_method_rate_limits=False) as sessions:
        statuses = [(await sessions.login()).status_code for _ in range(7)]
    assert statuses == [200] * 7


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_value_of_a_field_has_one_quota_however_it_is_spelt(spelling: str) -> None:
    async with Sessions.serve() as sessions:
        for _ in range(3):
            assert (await sessions.login("max@münchen.example")).status_code == 200
        check_refusal(await sessions.login(spelling))
        assert (await sessions.login("moritz@münchen.example")).status_code == 200


async def test_client_does_not_use_up_the_quota_of_a_value_for_others() -> None:
    async with Sessions.serve(**BEHIND_PROXY) as sessions:
        for address, statuses in {
            "203.0.113.1": [200, 200, 200, 429, 429],
            "203.0.113.2": [200, 200, 200, 429, 429],
            "203.0.113.3": [429],
        }.items():
            given = [await sessions.login(X_Forwarded_For=address) for _ in statuses]
            assert [each.status_code for each in given] == statuses
        assert '"Login-email-total-86400s";q=6' in given[0].headers["RateLimit-Policy"]
        other = await sessions.login("b@example.com", X_Forwarded_For="203.0.113.3")
        assert other.status_code == 200


async def test_refused_client_does_not_use_up_the_quota_of_a_value() -> None:
    async with Sessions.serve(**BEHIND_PROXY) as sessions:
        for number in range(5):
            await sessions.login(f"{number}@example.com", X_Forwarded_For="203.0.113.1")
        for _ in range(4):
            check_refusal(await sessions.login(X_Forwarded_For="203.0.113.1"))
        assert (await sessions.login(X_Forwarded_For="203.0.113.2")).status_code == 200


async def test_quota_is_free_again_after_its_time() -> None:
    limiter = SlidingWindowCounterRateLimiter(BoundedMemoryStorage())
    quota = parse("2/second")
    assert [await limiter.hit(quota, "a") for _ in range(3)] == [True, True, False]
    async with asyncio.timeout(5):
        while not await limiter.hit(quota, "a"):  # noqa: ASYNC110 - time is what frees it.
            await asyncio.sleep(0.05)


async def test_request_that_exceeds_a_quota_does_not_count_for_a_longer_one() -> None:
    counters = Counters()
    subject = Subject(parse_quotas("login", "9/day; 2/hour"), "key")
    for _ in range(5):
        hour, day = await counters.hit(subject)
    assert (hour.exceeded, hour.remaining) == (True, 0)
    assert (day.exceeded, day.remaining) == (False, 7)


async def test_other_requests_do_not_push_out_the_counters_of_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = partial(BoundedMemoryStorage, max_counters=10)
    monkeypatch.setattr("gateway.rates.store.BoundedMemoryStorage", few)
    counters = Counters()
    quotas = parse_quotas("any", "1/day")
    login = Subject(quotas, "login", of_method=True)
    assert not (await counters.hit(login))[0].exceeded
    for number in range(25):
        await counters.hit(Subject(quotas, str(number)))
    assert (await counters.hit(login))[0].exceeded


async def test_counters_in_memory_are_bounded_and_the_oldest_goes_first() -> None:
    storage = BoundedMemoryStorage(max_counters=10)
    limiter = SlidingWindowCounterRateLimiter(storage)
    quota = parse("1/day")
    for number in range(25):
        assert await limiter.hit(quota, str(number))
    assert len(storage.storage) == len(storage.expirations) == 10
    assert not await limiter.hit(quota, "24")
    assert await limiter.hit(quota, "0")


@pytest.mark.parametrize(
    "text", ["10", "ten/minute", "0/minute", "10/fortnight", "10/minute;", "-1/day"]
)
def test_quotas_must_be_requests_per_time(text: str) -> None:
    with pytest.raises(ValueError, match="must be numbers of requests per time"):
        parse_quotas("client", text)


def test_digest_does_not_tell_identities_from_their_parts() -> None:
    assert digest("a", "bc") != digest("ab", "c")
    assert "user" not in digest("user@example.com")
