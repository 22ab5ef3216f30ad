import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from probe.v1 import probe_pb2

from gateway.http import connection
from gateway.http.limits import MAX_HEAD_BYTES
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import ProbeServicer, serve_probes
from gateway.testing.wire import connect

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST_LINES = b"GET /v1/probes/7 HTTP/1.1\r\nHost: gateway\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[str, ProbeServicer]]:
    async with serve_probes() as (servicer, port):
        app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port)
        async with serve_app(app) as url:
            yield url, servicer


@pytest.fixture
def url(running: tuple[str, ProbeServicer]) -> str:
    return running[0]


@pytest.fixture
def servicer(running: tuple[str, ProbeServicer]) -> ProbeServicer:
    return running[1]


async def exchange(url: str, *pieces: bytes) -> tuple[int, dict[str, object]]:
    """Send pieces on a connection, and return the status and body of the answer to them."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split()[0])
        body = json.loads(await reader.readexactly(length))
    writer.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "pieces",
    [
        [b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"],
        [b"X-%d: %s\r\n" % (number, b"x" * 1_000) for number in range(40)],
        # A header that has no end.
        [b"X-Long: ", *[b"x" * 1_000] * 40],
    ],
)
async def test_headers_over_the_bound_are_refused(url: str, pieces: list[bytes]) -> None:
    status, problem = await exchange(url, FIRST_LINES, *pieces)
    assert (status, problem["reason"]) == (431, "HEADERS_TOO_LARGE")


async def test_path_over_the_bound_is_refused(url: str) -> None:
    request = b"GET /v1/probes/%s HTTP/1.1\r\nHost: gateway\r\n\r\n" % (b"x" * MAX_HEAD_BYTES)
    assert (await exchange(url, request))[0] == 431


async def test_headers_below_the_bound_are_taken(url: str) -> None:
    header = b"X-Long: " + b"x" * (MAX_HEAD_BYTES - 1_000) + b"\r\n\r\n"
    assert (await exchange(url, FIRST_LINES, header))[0] == 200


async def test_a_body_does_not_count_as_a_header(url: str) -> None:
    body = b"{}" + b" " * (4 * MAX_HEAD_BYTES)
    head = b"POST /v1/probes HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await exchange(url, head + body))[0] == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"not http\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : gateway\r\n\r\n",
        b"POST /v1/probes HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/probes HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/probes HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked"
        b"\r\n\r\n0\r\n\r\n",
    ],
)
async def test_malformed_request_is_a_problem(url: str, request_bytes: bytes) -> None:
    status, problem = await exchange(url, request_bytes)
    assert (status, problem["reason"]) == (400, "INVALID_HTTP")


async def test_client_that_takes_nothing_counts_as_gone(
    url: str, servicer: ProbeServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "UNACKNOWLEDGED_SECONDS", 1)
    async with connect(url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=-1&size=100000", {})
        await asyncio.wait_for(servicer.cancelled.wait(), timeout=15)
