"""The formats of a stream of responses, and what all of them have in common."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.testing.events import EventParser
from gateway.testing.fixtures import Setup
from gateway.testing.wire import connect

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

NDJSON, EVENTS, JSON = "application/x-ndjson", "text/event-stream", "application/json"
PROBLEM = "application/problem+json"


def read_lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def read_array(body: bytes) -> list[Any]:
    array: list[Any] = json.loads(body)
    return array


def read_events(body: bytes) -> list[Any]:
    """Return events as if they were records."""
    parser = EventParser()
    parser.parse(body)
    records = [
        {"error": event.json()} if event.name == "problem" else event.json()
        for event in parser.events
        if event.name != "end"
    ]
    ends = [event.name for event in parser.events if event.name != "message"]
    assert len(ends) == 1
    return records


def numbers(records: list[Any]) -> list[int]:
    return [record["int32Value"] for record in records]


FORMS = [(NDJSON, read_lines), (EVENTS, read_events), (JSON, read_array)]
Read = Callable[[bytes], list[Any]]
all_forms = pytest.mark.parametrize(("accept", "read"), FORMS)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, NDJSON),
        ("", NDJSON),
        ("*/*", NDJSON),
        (NDJSON, NDJSON),
        (JSON, JSON),
        (EVENTS, EVENTS),
        ("application/jsonl", "application/jsonl"),
        ("application/ndjson", "application/ndjson"),
        (f"{JSON}, text/plain, */*", JSON),
        (f"{EVENTS};q=0.5, {JSON};q=0.6", JSON),
        (f"{NDJSON};q=0, */*", EVENTS),
    ],
)
async def test_accept_chooses_the_format(
    setup: Setup, accept: str | None, content_type: str
) -> None:
    headers = {"Accept": accept} if accept is not None else {}
    request = httpx.Request("GET", f"{setup.url}/v1/probes:watch?count=1", headers=headers)
    response = await setup.client.send(request)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == content_type
    assert "Accept" in response.headers["Vary"]


async def test_lines_of_accept_are_joined(setup: Setup) -> None:
    headers = [("Accept", JSON), ("Accept", "image/png")]
    response = await setup.client.get("/v1/probes:watch?count=1", headers=headers)
    assert numbers(response.json()) == [1]


async def test_unknown_format_is_refused_before_any_call(setup: Setup) -> None:
    response = await setup.client.get("/v1/probes:watch", headers={"Accept": "text/html"})
    assert (response.status_code, response.headers["Content-Type"]) == (406, PROBLEM)
    assert response.json()["reason"] == "NOT_ACCEPTABLE"
    assert EVENTS in response.json()["detail"]
    assert response.headers["Vary"] == "Accept"
    assert not setup.servicer.calls


@all_forms
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_complete_stream_ends_with_an_event(
    setup: Setup, accept: str, read: Read, count: int
) -> None:
    response = await setup.client.get(f"/v1/probes:watch?count={count}", headers={"Accept": accept})
    assert response.status_code == 200
    assert numbers(read(response.content)) == list(range(1, count + 1))


@all_forms
async def test_failure_in_midstream_is_the_last_record(
    setup: Setup, accept: str, read: Read
) -> None:
    response = await setup.client.get(
        "/v1/probes:watch?count=2&code=10", headers={"Accept": accept}
    )
    assert response.status_code == 200
    *records, last = read(response.content)
    assert numbers(records) == [1, 2]
    assert (last["error"]["code"], last["error"]["status"]) == ("ABORTED", 409)


@pytest.mark.parametrize("accept", [NDJSON, EVENTS, JSON])
async def test_failure_before_the_first_response_is_an_ordinary_problem(
    setup: Setup, accept: str
) -> None:
    response = await setup.client.get("/v1/probes:watch?count=0&code=5", headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (404, PROBLEM)


@all_forms
async def test_uploads_have_responses_in_every_format(
    setup: Setup, accept: str, read: Read
) -> None:
    body = b'{"id": "a"}\n{"id": "b"}\n{"id": 3}\n'
    headers = {"Accept": accept, "Content-Type": NDJSON}
    response = await setup.client.post("/v1/probes:chat", content=body, headers=headers)
    *records, last = read(response.content)
    assert records == [{"id": "a"}, {"id": "b"}]
    assert last["error"]["metadata"] == {"record": "3"}


@all_forms
async def test_responses_are_sent_during_the_upload(setup: Setup, accept: str, read: Read) -> None:
    headers = {"Accept": accept, "Content-Type": NDJSON, "Transfer-Encoding": "chunked"}
    body = b""
    async with connect(setup.url) as wire:
        await wire.send_head("POST", "/v1/probes:chat", headers)
        for number in range(5):
            await wire.send_record({"int32Value": number + 1})
            if number == 0:
                await wire.read_head()
            body += await wire.read_chunk()
        await wire.send_end()
        while chunk := await wire.read_chunk():
            body += chunk
    assert read(body) == [{"int32Value": number + 1} for number in range(5)]


@all_forms
async def test_record_can_be_a_field_of_the_response(setup: Setup, accept: str, read: Read) -> None:
    response = await setup.client.get(
        "/v1/probes:pages?total=3&page_size=2", headers={"Accept": accept}
    )
    assert read(response.content) == [[{"int32Value": 1}, {"int32Value": 2}], [{"int32Value": 3}]]


async def test_stream_is_logged_as_it_ended(setup: Setup) -> None:
    with capture_logs() as events:
        await setup.client.get("/v1/probes:watch?count=1&code=10")
        await setup.client.get("/v1/probes:watch?count=1")
    assert [event["code"] for event in events if event["event"] == "request"] == ["ABORTED", "OK"]


@pytest.mark.parametrize("accept", ["text/html", EVENTS])
async def test_accept_is_ignored_if_there_is_one_format(setup: Setup, accept: str) -> None:
    headers = {"Accept": accept, "Last-Event-ID": "$end"}
    raw = await setup.client.get("/v1/raw:download?count=2", headers=headers)
    assert (raw.headers["Content-Type"], raw.content) == ("text/csv", b"1\n2\n")
    headers["Content-Type"] = NDJSON
    whole = await setup.client.post("/v1/probes:collect", content=b"{}", headers=headers)
    assert (whole.headers["Content-Type"], whole.status_code) == (JSON, 200)


async def test_streams_beyond_the_limit_are_refused() -> None:
    async with (
        Setup.serve(apigateway_max_streams=2) as setup,
        connect(setup.url) as first,
        connect(setup.url) as second,
    ):
        for wire in (first, second):
            await wire.send_head("GET", "/v1/probes:watch?count=2&pause_seconds=60", {})
            assert (await wire.read_head())[0] == 200
        for method, path in (("POST", "collect"), ("POST", "chat"), ("GET", "watch")):
            response = await setup.client.request(method, f"/v1/probes:{path}")
            assert (response.status_code, response.json()["reason"]) == (503, "TOO_MANY_STREAMS")
            assert response.headers["Retry-After"]
        assert (await setup.client.get("/v1/probes/7")).status_code == 200
        assert [call.rpc for call in setup.servicer.calls] == ["Watch", "Watch", "GetProbe"]
        first.abort()
        await setup.servicer.cancelled.wait()
        assert (await setup.client.get("/v1/probes:watch?count=1")).status_code == 200
