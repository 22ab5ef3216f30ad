"""The client of the run: one key and one retry for each request, and all failures counted."""

from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.stack.one_retry import OneRetry


@dataclass
class Failing:
    """A server whose first responses are failures, and which remembers the keys."""

    statuses: list[int]
    keys: list[str | None] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Retry-After": "0"} if status == 503 else {})


async def send(failing: Failing, path: str = "/v1/orders") -> tuple[OneRetry, int]:
    app = web.Application()
    app.router.add_post("/v1/{path}", failing.respond)
    client = OneRetry()
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(middlewares=[client]) as session,
        session.post(server.make_url(path), json={}) as response,
    ):
        return client, response.status


async def test_a_failed_request_is_sent_again_with_its_key() -> None:
    failing = Failing([503])
    client, status = await send(failing)
    assert status == 200
    first, second = failing.keys
    assert first == second is not None
    assert client.first_failures == Counter({"POST /v1/orders: 503": 1})
    assert client.failures == Counter()


async def test_a_request_that_fails_twice_is_a_failure() -> None:
    client, status = await send(Failing([503, 503]))
    assert status == 503
    assert client.failures == Counter({"POST /v1/orders: 503": 1})


async def test_a_request_that_is_refused_when_it_is_repeated_is_a_failure() -> None:
    client, status = await send(Failing([503, 409]))
    assert status == 409
    assert client.failures == Counter({"POST /v1/orders: 409": 1})


@pytest.mark.parametrize("status", [200, 400, 409])
async def test_a_refusal_is_no_failure(status: int) -> None:
    failing = Failing([status])
    client, found = await send(failing)
    assert (found, len(failing.keys)) == (status, 1)
    assert (client.requests, client.first_failures) == (1, Counter())


async def test_a_stream_is_sent_once() -> None:
    failing = Failing([503])
    client, status = await send(failing, "/v1/orders:stream")
    assert (status, failing.keys) == (503, [None])
    assert client.first_failures == Counter({"POST /v1/orders:stream: 503": 1})
