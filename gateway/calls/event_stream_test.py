"""Server-sent events on a real server: resumption, silence, failures and disconnects."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.testing import fixtures
from gateway.testing.events import EVENT_STREAM, EventParser, EventSource
from gateway.testing.wire import TIMEOUT_SECONDS, Wire, connect

ACCEPT = {"Accept": EVENT_STREAM}
NDJSON = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
LIST = "/v1/probes:list?total=5&page_size=2"
NUMBERS = [1, 2, 3, 4, 5]


class Setup(fixtures.Setup):
    def source(self, path: str) -> EventSource:
        return EventSource(self.client, path)

    async def get(self, path: str, last_id: bytes | None = None) -> httpx.Response:
        headers = {b"Accept": EVENT_STREAM.encode()}
        if last_id is not None:
            headers[b"Last-Event-ID"] = last_id
        return await self.client.get(path, headers=headers)


@pytest.fixture
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    async with Setup.serve(**getattr(request, "param", {})) as setup:
        yield setup


def listed(source: EventParser) -> list[int]:
    pages = [event.json() for event in source.events if event.name == "message"]
    return [probe["int32Value"] for page in pages for probe in page["probes"]]


def parse(body: bytes) -> EventParser:
    parser = EventParser()
    parser.parse(body)
    return parser


async def read_until(wire: Wire, events: int) -> EventParser:
    """Read an open stream until it has `events` events, and count the comments.

    Raises:
        TimeoutError: they do not arrive in time.
    """
    body = b""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(parse(body).events) < events:
            body += await wire.read_chunk()
    return parse(body)


async def test_response_is_an_event_of_one_line(setup: Setup) -> None:
    response = await setup.get("/v1/probes:watch?count=2")
    assert response.headers["Content-Type"] == EVENT_STREAM
    assert response.headers["Cache-Control"] == "no-store"
    assert "Accept" in response.headers["Vary"]
    source = parse(response.content)
    assert [(event.name, event.json(), event.last_id) for event in source.events] == [
        ("message", {"int32Value": 1, "text": ""}, ""),
        ("message", {"int32Value": 2, "text": ""}, ""),
        ("end", {}, "$end"),
    ]


async def test_list_is_read_once_wherever_its_connection_is_cut(setup: Setup) -> None:
    length = len((await setup.get(LIST)).content)
    for cut in range(length + 1):
        source = setup.source(LIST)
        await source.connect(cut_after_bytes=cut)
        await source.read_all()
        assert listed(source) == NUMBERS, f"cut after {cut} bytes"


async def test_list_is_read_once_despite_transient_failures(setup: Setup) -> None:
    source = setup.source(f"{LIST}&code=14&retry_delay=2s")
    await source.read_all()
    assert listed(source) == NUMBERS
    names = [event.name for event in source.events]
    assert names == [*["message", "problem"] * 2, "message", "end"]
    assert source.retry_milliseconds == 2_000
    tokens = [call.request for call in setup.servicer.calls]
    assert [getattr(request, "page_token", None) for request in tokens] == ["", "2", "4"]


async def test_final_failure_is_not_retried(setup: Setup) -> None:
    source = setup.source(f"{LIST}&code=3")
    await source.read_all()
    assert [event.name for event in source.events] == ["message", "problem"]
    assert source.events[1].json()["code"] == "INVALID_ARGUMENT"
    assert len(setup.servicer.calls) == 1


async def test_client_does_not_reconnect_after_a_complete_stream(setup: Setup) -> None:
    for path in (LIST, "/v1/probes:watch?count=1", "/v1/probes:follow?last=3"):
        source = setup.source(path)
        await source.read_all()
        assert source.events[-1].name == "end"
    assert len(setup.servicer.calls) == 3
    response = await setup.get(LIST, b"$end")
    assert (response.status_code, response.content) == (204, b"")


async def test_id_comes_from_the_whole_response_if_the_record_is_a_field(setup: Setup) -> None:
    source = setup.source("/v1/probes:pages?total=5&page_size=2")
    await source.connect(cut_after_bytes=60)
    assert len(source.events) == 1
    await source.read_all()
    assert source.messages() == [
        [{"int32Value": 1}, {"int32Value": 2}],
        [{"int32Value": 3}, {"int32Value": 4}],
        [{"int32Value": 5}],
    ]


async def test_last_event_id_wins_over_the_token_in_the_query(setup: Setup) -> None:
    assert listed(parse((await setup.get(f"{LIST}&page_token=4", b"2")).content)) == [3, 4, 5]
    assert listed(parse((await setup.get(f"{LIST}&page_token=4", b"")).content)) == [5]


@pytest.mark.parametrize("last_id", [b"what", b"\xff"])
async def test_unknown_id_is_an_ordinary_problem(setup: Setup, last_id: bytes) -> None:
    response = await setup.get(LIST, last_id)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_last_event_id_is_ignored_if_the_stream_cannot_be_resumed(setup: Setup) -> None:
    assert len(parse((await setup.get("/v1/probes:watch?count=2", b"7")).content).events) == 3
    lines = await setup.client.get(LIST, headers={"Last-Event-ID": "4"})
    assert len(lines.text.splitlines()) == 3


async def test_changes_are_resumed_after_the_last_one_with_a_token(setup: Setup) -> None:
    source = setup.source("/v1/probes:follow?last=6")
    await source.connect()
    assert [message["number"] for message in source.messages()] == [1, 2, 3, 4, 5, 6]
    assert [event.last_id for event in source.events] == ["", "2", "2", "4", "4", "6", "$end"]
    resumed = parse((await setup.get("/v1/probes:follow?last=6", b"4")).content)
    assert [event.json().get("number") for event in resumed.events] == [5, 6, None]
    assert resumed.events[0].last_id == "4"


async def test_failure_before_the_first_response_is_an_ordinary_problem(setup: Setup) -> None:
    response = await setup.get("/v1/probes:watch?count=0&code=5")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.5}], indirect=True)
async def test_silent_stream_has_heartbeats_and_is_never_idle(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=2&pause_seconds=1.5", ACCEPT)
        assert (await wire.read_head())[0] == 200
        source = await read_until(wire, events=3)
    assert [event.name for event in source.events] == ["message", "message", "end"]
    assert source.comments >= 2


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.5}], indirect=True)
async def test_stream_that_is_silent_from_the_start_begins_with_a_heartbeat(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", ACCEPT | NDJSON)
        assert (await wire.read_head())[0] == 200
        assert await wire.read_chunk() == b":\n"
        await wire.send_record({"id": "a"})
        assert (await read_until(wire, events=1)).events[0].json() == {"id": "a"}
        # From now on a failure cannot be a response of its own.
        await wire.send_record({"id": "fail"})
        assert (await read_until(wire, events=1)).events[0].json()["code"] == "ABORTED"


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.5}], indirect=True)
async def test_client_that_leaves_between_heartbeats_cancels_the_call(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=2&pause_seconds=60", ACCEPT)
        await wire.read_head()
        source = parse(await wire.read_chunk() + await wire.read_chunk())
        assert (len(source.events), source.comments) == (1, 1)
        wire.abort()
        await asyncio.wait_for(setup.servicer.cancelled.wait(), timeout=5)


@pytest.mark.parametrize("setup", [{"apigateway_stream_idle_seconds": 0.5}], indirect=True)
async def test_heartbeats_are_no_activity_while_an_upload_is_blocked(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", ACCEPT | NDJSON)
        await wire.send_record({"id": "hang"})
        uploading = asyncio.create_task(send_for_ever(wire))
        assert (await wire.read_head())[0] == 200
        source = await read_until(wire, events=1)
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
    assert source.events[0].json()["reason"] == "STREAM_IDLE"
    assert setup.servicer.received == 1


async def send_for_ever(wire: Wire) -> None:
    while True:
        await wire.send_record({"id": "x" * 10_000})


@pytest.mark.parametrize("setup", [{"drain_seconds": 0.1}], indirect=True)
async def test_stream_that_the_server_ends_can_be_resumed_elsewhere(setup: Setup) -> None:
    async with connect(setup.url) as wire:
        await wire.send_head("GET", "/v1/probes:watch?count=-1&pause_seconds=0.05", ACCEPT)
        await wire.read_head()
        setup.app.drain()
        body = b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while chunk := await wire.read_chunk():
                body += chunk
    source = parse(body)
    assert source.events[-1].name == "problem"
    assert source.events[-1].json()["reason"] == "SERVER_STOPPING"
    assert (source.last_id, source.retry_milliseconds) == ("", 1_000)


async def test_compressed_events_come_one_by_one(setup: Setup) -> None:
    headers = {**ACCEPT, "Accept-Encoding": "gzip"}
    path = "/v1/probes:watch?count=2&pause_seconds=60"
    async with setup.client.stream("GET", path, headers=headers) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        async for piece in response.aiter_bytes():
            assert parse(piece).events[0].json()["int32Value"] == 1
            break
