"""What streams look like in each format, and what a client makes of a part of an event stream."""

import json
from collections.abc import Callable, Sequence
from operator import attrgetter

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from probe.v1 import probe_pb2

from gateway.calls.event_stream import END_ID, EventStream, read_id, write_id
from gateway.calls.formats import AbortResponseError, JsonArray, JsonLines, RawBytes, StreamFormat
from gateway.http.problems import Problem
from gateway.routing.resumption import Resumption
from gateway.testing.events import EventParser

PAGES = Resumption(attrgetter("next_page_token"), "page_token", ends_without_token=True)
CHANGES = Resumption(attrgetter("resume_token"), "resume_token", ends_without_token=False)
ABORTED = Problem(409, "ABORTED", "Too\nlate.")
LINES = "a\nb\r\nc\rd\u0085e\u2028f\u2029g\x0bh: i"


def dump(message: Message) -> bytes:
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False).encode()


def probes(*texts: str) -> list[Message]:
    return [probe_pb2.Probe(text=text) for text in texts]


def pages(*tokens: str) -> list[Message]:
    return [
        probe_pb2.ListProbesResponse(
            probes=[probe_pb2.Probe(int32_value=number)], next_page_token=token
        )
        for number, token in enumerate(tokens, start=1)
    ]


def write(
    stream_format: StreamFormat, messages: Sequence[Message], problem: Problem | None = None
) -> bytes:
    written = [stream_format.begin(), *(stream_format.write(message) for message in messages)]
    written.append(stream_format.end() if problem is None else stream_format.problem(problem))
    return b"".join(written)


def read_lines(body: bytes) -> list[object]:
    return [json.loads(line) for line in body.split(b"\n") if line]


def read_array(body: bytes) -> list[object]:
    array: list[object] = json.loads(body)
    return array


def parse(body: bytes) -> EventParser:
    parser = EventParser()
    parser.parse(body)
    return parser


@pytest.mark.parametrize(
    ("stream_format", "read"), [(JsonLines, read_lines), (JsonArray, read_array)]
)
@pytest.mark.parametrize("texts", [(), ("a",), ("a", LINES, "{}")])
def test_failure_is_a_last_record(
    stream_format: type[StreamFormat], read: Callable[[bytes], list[object]], texts: Sequence[str]
) -> None:
    records = [{"text": text} for text in texts]
    assert read(write(stream_format(dump), probes(*texts))) == records
    failed = read(write(stream_format(dump), probes(*texts), ABORTED))
    assert failed == [*records, {"error": ABORTED.as_object()}]


def test_ndjson_has_a_line_for_each_response() -> None:
    assert write(JsonLines(dump), probes("a", "b")).count(b"\n") == 2


def test_raw_bytes_are_unchanged_and_cannot_represent_a_failure() -> None:
    stream_format = RawBytes(attrgetter("bytes_value"))
    pieces: list[Message] = [probe_pb2.Probe(bytes_value=piece) for piece in (b"\x00a", b"\n")]
    assert write(stream_format, pieces) == b"\x00a\n"
    with pytest.raises(AbortResponseError):
        stream_format.problem(ABORTED)


def test_events_have_no_ids_where_nothing_can_be_resumed() -> None:
    source = parse(write(EventStream(dump, None, "7"), probes("a", LINES)))
    assert [(event.name, event.json(), event.last_id) for event in source.events] == [
        ("message", {"text": "a"}, ""),
        ("message", {"text": LINES}, ""),
        ("end", {}, END_ID),
    ]


def test_each_page_has_the_id_to_resume_after_it_and_the_last_has_the_end() -> None:
    source = parse(write(EventStream(dump, PAGES), pages("one", "two", "")))
    names_and_ids = [(event.name, event.last_id) for event in source.events]
    assert names_and_ids == [
        ("message", "one"),
        ("message", "two"),
        ("message", END_ID),
        ("end", END_ID),
    ]
    assert [event.json()["probes"][0]["int32Value"] for event in source.events[:3]] == [1, 2, 3]


def test_list_that_was_not_read_to_its_end_still_ends() -> None:
    source = parse(write(EventStream(dump, PAGES), pages("one", "two")))
    assert [event.last_id for event in source.events] == ["one", "two", END_ID]


def test_page_without_a_token_in_the_middle_has_not_the_id_of_the_end() -> None:
    source = parse(write(EventStream(dump, PAGES), pages("one", "", "three", "")))
    assert [event.last_id for event in source.events] == ["one", "one", "three", END_ID, END_ID]


def test_held_page_is_sent_with_the_next_heartbeat() -> None:
    stream_format = EventStream(dump, PAGES)
    body = b"".join(
        [stream_format.begin(), *(stream_format.write(page) for page in pages("one", ""))]
    )
    assert len(parse(body).events) == 1
    body += stream_format.heartbeat()
    assert [event.last_id for event in parse(body).events] == ["one", "one"]
    assert parse(body).comments == 1
    assert [event.name for event in parse(body + stream_format.end()).events] == ["message"] * 2 + [
        "end"
    ]


@pytest.mark.parametrize("token", ["", "a\nb", "a\rb", "a\x00b", " a", "a ", "\u2028", END_ID])
def test_event_without_a_usable_token_keeps_the_last_id(token: str) -> None:
    changes: list[Message] = [
        probe_pb2.FollowResponse(number=1, resume_token="one"),
        probe_pb2.FollowResponse(number=2, resume_token=token),
    ]
    source = parse(write(EventStream(dump, CHANGES), changes))
    assert [event.last_id for event in source.events] == ["one", "one", END_ID]


def test_heartbeats_are_not_events() -> None:
    stream_format = EventStream(dump)
    body = (
        stream_format.begin()
        + stream_format.heartbeat()
        + stream_format.write(probes("a")[0])
        + stream_format.heartbeat()
    )
    source = parse(body)
    assert (len(source.events), source.comments) == (1, 2)


def test_resumed_stream_repeats_its_id_and_a_client_does_not_lose_it() -> None:
    stream_format = EventStream(dump, CHANGES, "one")
    body = stream_format.begin() + stream_format.heartbeat()
    body += stream_format.write(probe_pb2.FollowResponse(number=2))
    assert parse(body).last_id == "one"


@pytest.mark.parametrize(
    ("problem", "last_id", "retry_milliseconds"),
    [
        (Problem(503, "UNAVAILABLE", "x"), "one", 3_000),
        (Problem(409, "ABORTED", "x"), "one", 3_000),
        (Problem(429, "RESOURCE_EXHAUSTED", "x", headers={"Retry-After": "7"}), "one", 7_000),
        (Problem(400, "FAILED_PRECONDITION", "x", headers={"Retry-After": "0"}), "one", 0),
        (Problem(404, "NOT_FOUND", "x"), END_ID, None),
        (Problem(500, "INTERNAL", "x"), END_ID, None),
    ],
)
def test_failure_is_an_event_that_states_whether_to_reconnect(
    problem: Problem, last_id: str, retry_milliseconds: int | None
) -> None:
    source = parse(write(EventStream(dump, PAGES), pages("one"), problem))
    assert source.events[-1].name == "problem"
    assert source.events[-1].json() == problem.as_object()
    assert (source.last_id, source.retry_milliseconds) == (last_id, retry_milliseconds)
    assert "end" not in [event.name for event in source.events]


def test_failure_comes_after_a_held_page() -> None:
    source = parse(write(EventStream(dump, PAGES), pages("one", ""), ABORTED))
    assert [event.name for event in source.events] == ["message", "message", "problem"]
    assert source.last_id == "one"


@given(st.lists(st.text(), max_size=4), st.data())
def test_list_that_is_cut_anywhere_and_resumed_is_read_once(
    texts: list[str], data: st.DataObject
) -> None:
    tokens = [str(number) for number in range(1, len(texts))] + [""]
    messages: list[Message] = [
        probe_pb2.ListProbesResponse(probes=[probe_pb2.Probe(text=text)], next_page_token=token)
        for text, token in zip(texts, tokens, strict=False)
    ]
    body = write(EventStream(dump, PAGES), messages)
    source = parse(body[: data.draw(st.integers(0, len(body)))])
    if source.last_id != END_ID:
        rest = messages[int(source.last_id or 0) :]
        source.parse(write(EventStream(dump, PAGES, source.last_id), rest))
    read = [event.json() for event in source.events if event.name == "message"]
    assert read == [json_format.MessageToDict(message) for message in messages]
    assert source.last_id == END_ID


@given(st.text())
def test_id_comes_back_as_it_was_or_is_not_sent(token: str) -> None:
    written = write_id(token)
    source = parse(b"id: %b\ndata: {}\n\n" % written)
    assert source.last_id == read_id(written.decode("latin-1")) == written.decode()
    assert written in (b"", token.encode())


def test_id_has_a_maximum_length() -> None:
    assert write_id("x" * 4096) == b"x" * 4096
    assert write_id("x" * 4097) == b""


@pytest.mark.parametrize("header", ["\xff", "\xc3"])
def test_id_that_is_not_utf_8_is_refused(header: str) -> None:
    with pytest.raises(Problem) as caught:
        read_id(header)
    assert caught.value.reason == "INVALID_HEADER"
