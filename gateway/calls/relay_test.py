"""Streams on a real server: both directions at once, flow control, and every way to end."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.http.body import MAX_BODY_BYTES
from gateway.testing import fixtures
from gateway.testing.wire import Wire, connect

NDJSON = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
PROMPT_SECONDS = 5.0

all_formats = pytest.mark.parametrize(
    "accept", ["application/x-ndjson", "text/event-stream", "application/json"]
)


class Setup(fixtures.Setup):
    async def cancelled(self) -> None:
        await asyncio.wait_for(self.servicer.cancelled.wait(), PROMPT_SECONDS)


@pytest.fixture
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    async with Setup.serve(**getattr(request, "param", {})) as setup:
        yield setup


async def begin_chat(wire: Wire, path: str = "/v1/probes:chat") -> None:
    await wire.send_head("POST", path, NDJSON)


async def test_responses_stream_during_the_upload(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        await wire.send_record({"id": "1"})
        assert (await wire.read_head())[0] == 200
        assert await wire.read_record() == {"id": "1"}
        for number in range(2, 50):
            await wire.send_record({"id": str(number)})
            assert await wire.read_record() == {"id": str(number)}
        await wire.send_end()
        assert await wire.read_record() is None


async def test_a_call_begins_before_its_body(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        await setup.servicer.wait_for(1)
        await wire.send_end()
        assert (await wire.read_head())[0] == 200
        assert await wire.read_record() is None


async def test_lines_may_be_split_anywhere(setup: Setup) -> None:
    upload = '{"id": "é"}\n\n  \r\n{"id":\t"2"}\r\n{"id": "3"}'.encode()
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        for position in range(len(upload)):
            await wire.send_chunk(upload[position : position + 1])
        await wire.send_end()
        await wire.read_head()
        records = [await wire.read_record() for _ in range(4)]
    assert records == [{"id": "é"}, {"id": "2"}, {"id": "3"}, None]


async def test_bad_line_is_reported_after_the_responses_to_good_ones(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        await wire.send_chunk(b'{"id": "1"}\n{"id": "2"}\n{"id": 3}\n{"id": "4"}\n')
        assert (await wire.read_head())[0] == 200
        assert await wire.read_record() == {"id": "1"}
        assert await wire.read_record() == {"id": "2"}
        problem = (await wire.read_record())["error"]
        assert await wire.read_record() is None
    assert problem["status"] == 400
    assert problem["code"] == "INVALID_ARGUMENT"
    assert problem["errors"] == [{"field": "id", "description": "must be a string"}]
    assert problem["metadata"] == {"record": "3"}
    assert setup.servicer.received == 2


async def test_bad_first_line_is_an_ordinary_problem(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.post(
            "/v1/probes:chat", content=b"{]\n", headers={"Content-Type": "application/x-ndjson"}
        )
    assert response.status_code == 400
    assert response.json()["reason"] == "INVALID_JSON"


async def test_service_that_refuses_an_upload_before_its_end_sends_the_reason(setup: Setup) -> None:
    upload = b'{"id": "fail"}\n' + b"{}\n" * 5
    headers = {"Content-Type": "application/x-ndjson"}
    async with httpx.AsyncClient(base_url=setup.url) as client:
        # The refusal and the writes race.
        for _ in range(20):
            response = await client.post("/v1/probes:chat", content=upload, headers=headers)
            assert (response.status_code, response.json()["code"]) == (409, "ABORTED")


async def test_incomplete_upload_fails_the_call(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire, "/v1/probes:collect")
        await wire.send_chunk(b'{"id": "1"}\n{"id": 2}\n')
        status, _ = await wire.read_head()
    assert status == 400
    await setup.cancelled()


@pytest.mark.parametrize("path", ["/v1/probes:collect", "/v1/probes:chat"])
async def test_client_that_leaves_during_an_upload_cancels_the_call(
    setup: Setup, path: str
) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire, path)
        await wire.send_record({"id": "1"})
        await setup.servicer.wait_for_requests(1)
        wire.abort()
        await setup.cancelled()


@all_formats
async def test_client_that_leaves_a_quiet_stream_cancels_the_call(
    setup: Setup, accept: str
) -> None:
    async with connect(setup.url) as wire:
        path = "/v1/probes:watch?count=2&pause_seconds=60"
        await wire.send_head("GET", path, {"Accept": accept})
        await wire.read_head()
        await wire.read_chunk()
        wire.abort()
        await setup.cancelled()


@all_formats
async def test_stalled_reader_stops_the_service(setup: Setup, accept: str) -> None:
    async with connect(setup.url) as wire:
        path = "/v1/probes:watch?count=-1&size=100000"
        await wire.send_head("GET", path, {"Accept": accept})
        await wire.read_head()
        sent = await setup.servicer.settled()
        # Socket buffers and flow-control windows; without back-pressure it would never stop.
        assert sent * 100_000 < 16 * 1024 * 1024
        for _ in range(sent + 10):
            await wire.read_chunk()
        assert setup.servicer.sent > sent
        wire.abort()
        await setup.cancelled()


async def test_upload_waits_while_responses_are_not_read(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        sent = await send_until_held(wire, {"id": "x" * 100_000}, 1_000)
        # The responses are not read, so finally no more requests are taken.
        assert sent < 1_000
        wire.abort()
        await setup.cancelled()


async def send_until_held(wire: Wire, record: object, limit: int) -> int:
    for sent in range(limit):
        try:
            async with asyncio.timeout(2):
                await wire.send_record(record)
        except TimeoutError:
            return sent
    return limit


async def test_raw_stream_keeps_its_content_type(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.get("/v1/raw:download?count=3")
    assert response.headers["Content-Type"] == "text/csv"
    assert response.content == b"1\n2\n3\n"


async def test_raw_stream_that_fails_is_cut_off(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/v1/raw:download?count=3&code=13")


async def test_raw_upload_of_any_size_is_passed_on_in_pieces(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.post(
            "/v1/raw:upload", content=b"x" * 5_000_000, headers={"Content-Type": "image/png"}
        )
    assert response.json() == {"int64Value": "5000000", "text": "image/png"}


async def test_line_over_the_limit_is_refused_before_its_end(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        for _ in range(MAX_BODY_BYTES // 65_536 + 1):
            await wire.send_chunk(b" " * 65_536)
        status, _ = await wire.read_head()
    assert status == 413


async def test_line_over_the_limit_is_released_at_once(setup: Setup) -> None:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            async with connect(setup.url) as wire:
                await begin_chat(wire)
                await wire.send_chunk(b"x" * (MAX_BODY_BYTES + 1))
                assert (await wire.read_head())[0] == 413
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held_bytes < 2 * MAX_BODY_BYTES


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.3}], indirect=True)
async def test_idle_stream_ends_with_a_typed_record(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.get("/v1/probes:watch?count=2&pause_seconds=30")
    last = httpx.Response(200, content=response.text.splitlines()[-1]).json()
    assert last["error"]["code"] == "DEADLINE_EXCEEDED"
    assert last["error"]["reason"] == "STREAM_IDLE"
    await setup.cancelled()


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.3}], indirect=True)
async def test_stream_with_activity_is_not_idle(setup: Setup) -> None:
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.get("/v1/probes:watch?count=8&pause_seconds=0.1")
    assert len(response.text.splitlines()) == 8
    assert "error" not in response.text


@all_formats
@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 1.0}], indirect=True)
async def test_stalled_reader_is_disconnected(setup: Setup, accept: str) -> None:
    async with connect(setup.url) as wire:
        path = "/v1/probes:watch?count=-1&size=100000"
        await wire.send_head("GET", path, {"Accept": accept})
        await wire.read_head()
        await setup.cancelled()
        with pytest.raises(asyncio.IncompleteReadError):
            await read_to_end(wire)


async def read_to_end(wire: Wire) -> list[bytes]:
    """Return all pieces of a body that ends soon.

    Raises:
        TimeoutError: it does not end.
    """
    pieces = []
    async with asyncio.timeout(PROMPT_SECONDS):
        while piece := await wire.read_chunk():
            pieces.append(piece)
    return pieces


async def test_grpc_timeout_bounds_a_stream(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        path = "/v1/probes:watch?count=-1&pause_seconds=0.05"
        await wire.send_head("GET", path, {"Grpc-Timeout": "300m"})
        await wire.read_head()
        *_, last = await read_to_end(wire)
    assert json.loads(last)["error"]["status"] == 504


@pytest.mark.parametrize("setup", [{"drain_seconds": 60}], indirect=True)
async def test_draining_finishes_requests_that_were_taken_and_refuses_new_ones(
    setup: Setup,
) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire)
        await wire.send_record({"id": "1"})
        await wire.read_head()
        assert await wire.read_record() == {"id": "1"}
        setup.app.drain()
        problem = (await wire.read_record())["error"]
        assert await wire.read_record() is None
    assert problem["reason"] == "SERVER_STOPPING"
    async with httpx.AsyncClient(base_url=setup.url) as client:
        response = await client.get("/v1/probes:watch?count=1")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


async def test_draining_lets_an_upload_with_one_response_finish(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await begin_chat(wire, "/v1/probes:collect")
        await wire.send_record({"id": "1"})
        await setup.servicer.wait_for_requests(1)
        setup.app.drain()
        await wire.send_record({"id": "2"})
        await wire.send_end()
        status, _ = await wire.read_head()
    assert status == 200


async def test_draining_ends_a_stream_that_has_no_end(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=-1&pause_seconds=0.05", {})
        await wire.read_head()
        setup.app.drain()
        *_, last = await read_to_end(wire)
    assert json.loads(last)["error"]["reason"] == "SERVER_STOPPING"
