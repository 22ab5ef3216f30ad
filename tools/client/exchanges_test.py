"""Sessions of the HTTP libraries with a real shop, which ends those that use a token twice."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import httpx
import pytest

from tools.client.auth import Bearer
from tools.client.session import LoginError, Session
from tools.client.token_source import TokenSource
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, ShopProcess, open_environment

REQUESTS = 15
PATH = "/v1/users"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment


@pytest.fixture(scope="module")
def url(environment: dict[str, str]) -> Iterator[str]:
    with ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield shop.url


@pytest.fixture
def session() -> Session:
    return Session(ADMIN_EMAIL, ADMIN_PASSWORD)


@pytest.fixture
def restless_session() -> Session:
    """A session that replaces its access token before each use."""
    return Session(ADMIN_EMAIL, ADMIN_PASSWORD, renewal=dt.timedelta(minutes=20))


def count_calls(environment: dict[str, str], method: str) -> int:
    log = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "logs", "user.log")
    return log.read_text(encoding="utf-8").count(f"UserService/{method}")


async def get_by_httpx(url: str, session: Session, count: int = REQUESTS) -> set[int]:
    """Make concurrent requests and return their statuses."""
    async with httpx.AsyncClient(base_url=url, auth=Bearer(session), trust_env=False) as client:
        responses = await asyncio.gather(*(client.get(PATH) for _ in range(count)))
    return {response.status_code for response in responses}


async def get_in_threads(url: str, session: Session, count: int = REQUESTS) -> set[int]:
    with (
        httpx.Client(base_url=url, auth=Bearer(session), trust_env=False) as client,
        ThreadPoolExecutor(count) as executor,
    ):
        return {response.status_code for response in executor.map(client.get, [PATH] * count)}


async def get_by_aiohttp(url: str, session: Session, count: int = REQUESTS) -> set[int]:
    async with aiohttp.ClientSession() as http:
        source = TokenSource(session, http, lambda: url)

        async def get() -> int:
            async with http.get(url + PATH, headers=await source.headers()) as response:
                return response.status

        return set(await asyncio.gather(*(get() for _ in range(count))))


Get = Callable[..., Awaitable[set[int]]]
LIBRARIES = pytest.mark.parametrize("get", [get_by_httpx, get_in_threads, get_by_aiohttp])


@LIBRARIES
async def test_concurrent_requests_log_in_once(
    environment: dict[str, str], url: str, session: Session, get: Get
) -> None:
    before = count_calls(environment, "Login")
    assert await get(url, session) == {200}
    assert count_calls(environment, "Login") == before + 1


@LIBRARIES
async def test_concurrent_requests_refresh_one_at_a_time(
    environment: dict[str, str], url: str, restless_session: Session, get: Get
) -> None:
    logins, refreshes = (count_calls(environment, name) for name in ("Login", "RefreshToken"))
    assert await get(url, restless_session) == {200}
    assert count_calls(environment, "Login") == logins + 1
    assert count_calls(environment, "RefreshToken") == refreshes + REQUESTS - 1


@LIBRARIES
async def test_a_refused_login_is_raised(url: str, get: Get) -> None:
    with pytest.raises(LoginError, match="INVALID_CREDENTIALS"):
        await get(url, Session("nobody@example.com", "wrong password"), count=1)
