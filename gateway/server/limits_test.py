"""Limits of connections in time and number, which nothing extends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import pytest_asyncio
from probe.v1 import probe_pb2

from gateway.server import sockets
from gateway.server.limits import ConnectionLimits
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import ProbeServicer, serve_probes
from gateway.testing.wire import Wire, connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = b"GET /v1/probes/7 HTTP/1.1\r\nHost: gateway\r\n\r\n"
BEGUN = b"GET /v1/probes/7 HTTP/1.1\r\nHost: gateway\r\n"
JSON = {"Content-Type": "application/json"}
CHUNKED = {"Transfer-Encoding": "chunked"}
NDJSON = {**CHUNKED, "Content-Type": "application/x-ndjson"}
SHORT_SECONDS = 0.3
PAUSE_SECONDS = 0.05
"""The pause of a slow client between two bytes; each would extend a limit that is not a total."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probes() -> AsyncIterator[tuple[ProbeServicer, int]]:
    async with serve_probes() as serving:
        yield serving


@pytest.fixture
def servicer(probes: tuple[ProbeServicer, int]) -> ProbeServicer:
    probes[0].calls.clear()
    probes[0].cancelled.clear()
    return probes[0]


@asynccontextmanager
async def gateway(port: int, limits: ConnectionLimits) -> AsyncIterator[str]:
    async with serve_app(make_app(descriptor_set(probe_pb2.DESCRIPTOR), port), limits) as url:
        yield url


@pytest.fixture
def port(probes: tuple[ProbeServicer, int]) -> int:
    return probes[1]


async def trickle(wire: Wire, piece: bytes) -> None:
    """Send a piece repeatedly, until the server has closed."""
    with suppress(ConnectionError):
        while True:
            await wire.send_raw(piece)
            await asyncio.sleep(PAUSE_SECONDS)


async def flood(wire: Wire, piece: bytes) -> int:
    """Send until the server has closed; return how much it has read."""
    sent = 0
    with suppress(ConnectionError):
        while True:
            await wire.send_raw(piece)
            sent += len(piece)
    return sent


async def read_problem(wire: Wire) -> tuple[int, str]:
    status, headers, body = await wire.read_response()
    assert headers["connection"] == "close"
    return status, json.loads(body)["reason"]


@pytest.mark.parametrize("begun", [b"", b"\r\n", BEGUN, b"GET /v1/probes/7"])
async def test_missing_first_head_is_408(port: int, begun: bytes) -> None:
    async with (
        gateway(port, ConnectionLimits(head_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        await wire.send_raw(begun)
        assert await read_problem(wire) == (408, "SLOW_HEADERS")
        assert await wire.read_end() == b""


@pytest.mark.parametrize("before", [b"", GET])
async def test_head_has_a_total_time_limit(port: int, before: bytes) -> None:
    async with (
        gateway(port, ConnectionLimits(head_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        if before:
            await wire.send_raw(before)
            assert (await wire.read_response())[0] == 200
        await wire.send_raw(BEGUN + b"X-Slow: ")
        slow = asyncio.create_task(trickle(wire, b"x"))
        assert await read_problem(wire) == (408, "SLOW_HEADERS")
        slow.cancel()


async def test_empty_lines_do_not_keep_an_idle_connection(port: int) -> None:
    async with (
        gateway(port, ConnectionLimits(keep_alive_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        await wire.send_raw(GET)
        assert (await wire.read_response())[0] == 200
        slow = asyncio.create_task(trickle(wire, b"\r\n"))
        assert await wire.read_end() == b""
        slow.cancel()


async def test_body_has_a_total_time_limit(
    port: int, servicer: ProbeServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.body.READ_TIMEOUT_SECONDS", SHORT_SECONDS)
    async with gateway(port, ConnectionLimits()) as url, connect(url) as wire:
        await wire.send_head("POST", "/v1/probes", CHUNKED)
        slow = asyncio.create_task(trickle(wire, b"1\r\n \r\n"))
        assert await read_problem(wire) == (408, "SLOW_BODY")
        slow.cancel()
    assert not servicer.calls


async def test_unwanted_body_is_read_for_a_limited_time(port: int) -> None:
    async with (
        gateway(port, ConnectionLimits(linger_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        await wire.send_head("POST", "/v1/none", CHUNKED)
        assert await read_problem(wire) == (404, "UNKNOWN_PATH")
        async with asyncio.timeout(10):
            await trickle(wire, b"1\r\n \r\n")


async def test_unwanted_body_is_read_up_to_a_limit(port: int) -> None:
    async with (
        gateway(port, ConnectionLimits(linger_bytes=4 * 1024 * 1024)) as url,
        connect(url) as wire,
    ):
        await wire.send_head("POST", "/v1/none", {"Content-Length": str(2**40)})
        sent = await flood(wire, b"x" * 65_536)
    assert 4 * 1024 * 1024 <= sent < 32 * 1024 * 1024


async def test_client_that_does_not_close_does_not_delay_a_stop(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        AsyncExitStack() as stack,
        gateway(port, ConnectionLimits(linger_seconds=60)) as url,
    ):
        wire = await stack.enter_async_context(connect(url))
        await wire.send_head("POST", "/v1/none", {"Content-Length": "1"})
        assert await read_problem(wire) == (404, "UNKNOWN_PATH")
    assert "graceful shutdown exceeded" not in caplog.text


async def test_response_to_a_refused_upload_is_not_lost(port: int) -> None:
    async with gateway(port, ConnectionLimits()) as url, connect(url) as wire:
        await wire.send_head("POST", "/v1/probes", {"Content-Length": str(16 * 1024 * 1024)})
        # As most clients do: everything is sent before a response is read.
        for _ in range(256):
            await wire.send_raw(b"x" * 65_536)
        assert await read_problem(wire) == (413, "TOO_LARGE")
        assert await wire.read_end() == b""


async def test_connections_are_limited(port: int) -> None:
    async with gateway(port, ConnectionLimits(max_connections=1)) as url:
        async with connect(url) as first:
            await first.send_raw(GET)
            assert (await first.read_response())[0] == 200
            async with connect(url) as second:
                assert await read_problem(second) == (503, "TOO_MANY_CONNECTIONS")
            await first.send_raw(GET)
            assert (await first.read_response())[0] == 200
        await served_again(url)


async def served_again(url: str) -> None:
    """Wait until the server has noticed that other clients have disconnected."""
    async with asyncio.timeout(10):
        while True:
            async with connect(url) as wire:
                await wire.send_raw(GET)
                if (await wire.read_response())[0] == 200:
                    return


async def test_connection_past_its_age_takes_no_more_requests(port: int) -> None:
    async with gateway(port, ConnectionLimits(max_age_seconds=0)) as url, connect(url) as wire:
        await wire.send_raw(GET + GET)
        status, headers, _ = await wire.read_response()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.read_end() == b""


async def test_idle_connection_past_its_age_is_closed(port: int) -> None:
    async with (
        gateway(port, ConnectionLimits(max_age_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        await wire.send_raw(GET)
        assert (await wire.read_response())[0] == 200
        assert await wire.read_end() == b""


async def test_client_that_takes_a_response_slowly_is_cut_off(
    port: int, servicer: ProbeServicer
) -> None:
    async with (
        gateway(port, ConnectionLimits(write_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        await wire.send_head("GET", "/v1/probes:watch?count=-1&size=100000", {})
        await asyncio.wait_for(servicer.cancelled.wait(), timeout=10)


async def test_client_that_acknowledges_nothing_is_disconnected(
    port: int, servicer: ProbeServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNACKNOWLEDGED_SECONDS", 1)
    async with gateway(port, ConnectionLimits()) as url, connect(url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=-1&size=100000", {})
        await asyncio.wait_for(servicer.cancelled.wait(), timeout=15)


async def test_pipelined_requests_whose_responses_are_not_read_are_not_read_either(
    port: int,
) -> None:
    async with (
        gateway(port, ConnectionLimits(write_seconds=SHORT_SECONDS)) as url,
        connect(url) as wire,
    ):
        sent = await flood(wire, GET.replace(b"7", b"7?text=" + b"x" * 8_000) * 10)
    assert sent < 32 * 1024 * 1024


async def test_refusal_within_a_response_cuts_the_connection(
    port: int, servicer: ProbeServicer
) -> None:
    async with gateway(port, ConnectionLimits()) as url, connect(url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", NDJSON)
        await wire.send_record({"id": "1"})
        assert (await wire.read_head())[0] == 200
        assert await wire.read_record() == {"id": "1"}
        await wire.send_raw(b"not a chunk\r\n")
        rest = b""
        with suppress(ConnectionError):
            rest = await wire.read_end()
        assert b"HTTP/1.1" not in rest
        assert not rest.endswith(b"0\r\n\r\n")
        await asyncio.wait_for(servicer.cancelled.wait(), timeout=10)


async def test_body_is_asked_for_with_100_continue(port: int, servicer: ProbeServicer) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "10", **JSON}
    async with gateway(port, ConnectionLimits()) as url, connect(url) as wire:
        await wire.send_head("POST", "/v1/probes", headers)
        assert (await wire.read_head())[0] == 100
        await wire.send_raw(b'{"id":"1"}')
        assert (await wire.read_response())[0] == 200
        await wire.send_head("POST", "/v1/none", headers)
        assert await read_problem(wire) == (404, "UNKNOWN_PATH")
    assert [call.rpc for call in servicer.calls] == ["CreateProbe"]
