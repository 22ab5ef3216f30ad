"""Requests beyond those that a process works on are refused, cheaply, and health never is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
import structlog

from gateway.server.admission import YOUNG_SECONDS
from gateway.testing.fixtures import Setup
from gateway.testing.wire import Wire, connect

GET = b"GET /v1/probes/7 HTTP/1.1\r\nHost: gateway\r\n\r\n"
POST = (
    b"POST /v1/probes HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    b"Content-Length: 10\r\n\r\n"
)
BODY = b'{"id":"7"}'
LOOPBACK = frozenset({ip_network("127.0.0.0/8")})
OTHER = "127.0.0.2"


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@asynccontextmanager
async def busy(
    setup: Setup, *, count: int = 1, seconds: float = 30, address: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Have requests in progress, which have just begun."""
    async with AsyncExitStack() as stack:
        called = len(setup.servicer.calls)
        for _ in range(count):
            wire = await stack.enter_async_context(connect(setup.url, address))
            body = b'{"seconds":%.1f}' % seconds
            await wire.send_head(
                "POST",
                "/v1/waits",
                {"Content-Type": "application/json", "Content-Length": str(len(body))},
            )
            await wire.send_raw(body)
        await setup.servicer.wait_for(called + count)
        yield


async def status_of(wire: Wire, request: bytes) -> int:
    await wire.send_raw(request)
    status, headers, body = await wire.read_response()
    if status == 503:
        assert b'"OVERLOADED"' in body
        assert headers["retry-after"] == "1"
    return status


@pytest.mark.parametrize(
    "request_bytes",
    [GET, GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), POST + BODY],
)
async def test_request_beyond_the_limit_is_refused_and_its_connection_stays_open(
    request_bytes: bytes,
) -> None:
    async with Setup.serve(apigateway_max_requests=1) as setup, connect(setup.url) as wire:
        async with busy(setup):
            for _ in range(3):
                assert await status_of(wire, request_bytes) == 503
            calls = len(setup.servicer.calls)
        assert calls == 1
        async with asyncio.timeout(5):
            while await status_of(wire, request_bytes) == 503:
                pass


@pytest.mark.parametrize(
    "sent",
    [
        POST,
        POST + BODY[:-1],
        GET + GET,
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GET.replace(b"1.1", b"1.0"),
        b"POST /v1/probes HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
    ],
)
async def test_connection_of_a_refused_request_closes_where_it_could_not_go_on(
    sent: bytes,
) -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        busy(setup),
        connect(setup.url) as wire,
    ):
        await wire.send_raw(sent)
        status, headers, _ = await wire.read_response()
        assert (status, headers["connection"]) == (503, "close")
        assert await wire.read_end() == b""


async def test_head_in_pieces_is_refused_too() -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        busy(setup),
        connect(setup.url) as wire,
    ):
        await wire.send_raw(GET[:20])
        await asyncio.sleep(0.05)
        assert await status_of(wire, GET[20:]) == 503
        assert await status_of(wire, GET) == 503


async def test_health_is_never_refused() -> None:
    async with Setup.serve(apigateway_max_requests=1) as setup, busy(setup, count=1):
        for path in ("/healthz", "/readyz"):
            for method in ("GET", "HEAD"):
                # Once with Connection: keep-alive and more, and once with nothing but a Host.
                response = await setup.client.request(method, path)
                assert response.status_code in (200, 503)
                assert "OVERLOADED" not in response.text
                async with connect(setup.url) as wire:
                    await wire.send_head(method, path, {})
                    assert "retry-after" not in (await wire.read_head())[1]
        assert (await setup.client.get("/v1/probes/7")).json()["reason"] == "OVERLOADED"


async def test_client_has_a_limit_of_its_own() -> None:
    async with (
        Setup.serve(apigateway_max_requests=3, apigateway_max_client_requests=2) as setup,
        busy(setup, count=2),
        connect(setup.url) as wire,
        connect(setup.url, OTHER) as other,
    ):
        assert await status_of(wire, GET) == 503
        assert await status_of(other, GET) == 200


async def test_trusted_proxy_has_no_limit_of_its_own() -> None:
    async with (
        Setup.serve(
            apigateway_max_client_requests=1,
            apigateway_max_client_connections=1,
            apigateway_trusted_proxies=LOOPBACK,
        ) as setup,
        busy(setup, count=2),
        connect(setup.url) as wire,
    ):
        assert await status_of(wire, GET) == 200


async def test_stream_does_not_count() -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        connect(setup.url) as stream,
        connect(setup.url) as wire,
    ):
        path = "/v1/probes:watch?count=2&pause_seconds=60"
        await stream.send_head("GET", path, {"Accept": "text/event-stream"})
        await setup.servicer.wait_for(1)
        assert await status_of(wire, GET) == 200


async def test_request_that_takes_long_does_not_count() -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        busy(setup),
        connect(setup.url) as wire,
        asyncio.timeout(YOUNG_SECONDS + 5),
    ):
        assert await status_of(wire, GET) == 503
        while await status_of(wire, GET) == 503:  # noqa: ASYNC110 - time is what it waits for.
            await asyncio.sleep(0.05)


async def test_client_that_does_not_read_refusals_is_closed() -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        busy(setup),
        connect(setup.url) as wire,
    ):
        await wire.send_raw(GET * 50_000)
        assert len(await wire.read_end()) < 1_000


async def test_refusals_are_logged_together(events: list[Any]) -> None:
    async with (
        Setup.serve(apigateway_max_requests=1) as setup,
        busy(setup),
        connect(setup.url) as wire,
    ):
        for _ in range(20):
            assert await status_of(wire, GET) == 503
    logged = [each for each in events if each["event"] == "requests_refused"]
    assert 1 <= len(logged) <= 3


async def test_connections_of_a_client_are_bounded() -> None:
    async with (
        Setup.serve(apigateway_max_client_connections=1) as setup,
        connect(setup.url) as wire,
        connect(setup.url, OTHER) as other,
    ):
        assert await status_of(wire, GET) == 200
        async with connect(setup.url) as second:
            status, _, body = await second.read_response()
        assert (status, b"TOO_MANY_CONNECTIONS" in body) == (503, True)
        assert await status_of(other, GET) == 200
        wire.abort()
        async with asyncio.timeout(5):
            status = 503
            while status == 503:
                async with connect(setup.url) as third:
                    await third.send_raw(GET)
                    status, _, _ = await third.read_response()


async def test_slow_method_does_not_take_all_calls() -> None:
    async with Setup.serve(apigateway_max_method_calls=1) as setup, busy(setup):
        refused = await setup.client.post("/v1/waits", json={"seconds": 0})
        assert (refused.status_code, refused.json()["reason"]) == (503, "TOO_MANY_CALLS")
        assert (await setup.client.get("/v1/probes/7")).status_code == 200


async def test_body_that_does_not_come_keeps_nobody_from_calling_a_method() -> None:
    async with Setup.serve(apigateway_max_method_calls=1) as setup, connect(setup.url) as wire:
        await begin_body(wire)
        response = await setup.client.post("/v1/probes", json={})
        assert response.status_code == 200
        await wire.send_raw(b"{}")
        assert (await wire.read_response())[0] == 200


async def test_bodies_that_a_client_has_not_sent_yet_are_bounded() -> None:
    async with (
        Setup.serve(apigateway_max_client_bodies=1) as setup,
        connect(setup.url) as wire,
        connect(setup.url, OTHER) as other,
    ):
        await begin_body(wire)
        refused = await setup.client.post("/v1/probes", json={})
        assert (refused.status_code, refused.json()["reason"]) == (503, "TOO_MANY_BODIES")
        assert (await setup.client.get("/v1/probes/7")).status_code == 200
        await begin_body(other)
        await wire.send_raw(b"{}")
        assert (await wire.read_response())[0] == 200
        assert (await setup.client.post("/v1/probes", json={})).status_code == 200


async def begin_body(wire: Wire) -> None:
    """Send the head of a request, and return when the gateway waits for the body."""
    headers = {"Content-Type": "application/json", "Content-Length": "2", "Expect": "100-continue"}
    await wire.send_head("POST", "/v1/probes", headers)
    assert (await wire.read_head())[0] == 100


async def test_streams_of_a_client_are_bounded() -> None:
    path = "/v1/probes:watch?count=2&pause_seconds=60"
    async with (
        Setup.serve(apigateway_max_client_streams=1) as setup,
        connect(setup.url) as stream,
        connect(setup.url, OTHER) as other,
    ):
        await stream.send_head("GET", path, {})
        assert (await stream.read_head())[0] == 200
        refused = await setup.client.get(path)
        assert (refused.status_code, refused.json()["reason"]) == (503, "TOO_MANY_STREAMS")
        await other.send_head("GET", path, {})
        assert (await other.read_head())[0] == 200
        stream.abort()
        async with asyncio.timeout(5):
            while (await setup.client.get("/v1/probes:watch?count=1")).status_code == 503:
                pass
