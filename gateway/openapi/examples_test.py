"""Examples: accepted in requests, and exactly what the gateway writes in responses."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor

from gateway.openapi.comments import Comments
from gateway.openapi.document import make_document
from gateway.openapi.examples import of_requests, of_responses
from gateway.protojson.codec import JsonCodec
from gateway.routing.parameters import assign
from gateway.routing.routes import Route, compile_routes
from gateway.routing.templates import Match
from gateway.routing.transcoding import RequestParts
from gateway.testing.protos import compile_library
from gateway.upstream.descriptors import DescriptorSet

JSON = "application/json"
NDJSON = "application/x-ndjson"
JSON_ARRAY = "an array of records"
EVENT_STREAM = "text/event-stream"

TEXT = """
message Book {
  // For example "Middlemarch", or for example "Emma".
  string title = 1;
  // A filter, for example `title = "Emma"`.
  string filter = 2;
  // Why it is gone, for example LENT_OUT; empty otherwise.
  string reason = 3;
  // By AIP-160, for example AIP-160.
  string standard = 4;
  // Pages, for example 320.
  int32 pages = 5;
  // Sold, for example 1000.
  int64 sold = 6;
  int64 lost = 7;
  // For example KIND_ESSAY.
  Kind kind = 8;
  Kind other_kind = 9;
  Single single = 10;
  string owner_email = 11;
  string some_words = 12;
  repeated string shelf_ids = 13;
  bytes cover = 14;
  bool lent = 15;
  double weight = 16;
  map<string, int32> counts = 17;
  map<bool, string> booleans = 18;
  map<uint64, Single> singles = 19;
  google.protobuf.Timestamp create_time = 20;
  google.protobuf.Int64Value maybe = 21;
  google.protobuf.NullValue nothing = 22;
  google.protobuf.Empty empty = 23;
  oneof form {
    string paper = 24;
    string sound = 25;
  }
  Book sequel = 26;
  repeated Book others = 27;
  Level1 deep = 28;
  string given = 30 [(google.api.field_behavior) = OUTPUT_ONLY];
  string secret = 31 [(google.api.field_behavior) = INPUT_ONLY];
  string etag = 32;
  string page_token = 33;
  bool validate_only = 34;
}
message Level1 { Level2 next = 1; }
message Level2 { Level3 next = 1; }
message Level3 { Level4 next = 1; }
message Level4 { Level5 next = 1; }
message Level5 { string name = 1; }
enum Kind { KIND_UNSPECIFIED = 0; KIND_NOVEL = 1; KIND_ESSAY = 2; }
enum Single { SINGLE_UNSPECIFIED = 0; }
"""

BOOK = {
    "title": "Middlemarch",
    "filter": 'title = "Emma"',
    "reason": "LENT_OUT",
    "standard": "standard",
    "pages": 320,
    "sold": "1000",
    "lost": "1",
    "kind": "KIND_ESSAY",
    "otherKind": "KIND_NOVEL",
    "ownerEmail": "ada@example.com",
    "someWords": "some words",
    "shelfIds": ["01932c07-209b-7a3e-9d2f-3c5b8e1a4f60"],
    "cover": "aGVsbG8=",
    "lent": True,
    "weight": 1.5,
    "counts": {"key": 1},
    "booleans": {"true": "value"},
    "createTime": "2026-01-02T03:04:05Z",
    "maybe": "1",
    "empty": {},
    "paper": "paper",
    "deep": {"next": {"next": {"next": {}}}},
}


@pytest.fixture(scope="module")
def library() -> DescriptorSet:
    return compile_library(TEXT)


def test_example_is_what_comment_name_or_type_give(library: DescriptorSet) -> None:
    book = library.pool.FindMessageTypeByName("library.v1.Book")
    assert of_requests(Comments(library.files)).message(book) == {**BOOK, "secret": "secret"}


def test_example_of_a_response_has_output_only_fields(library: DescriptorSet) -> None:
    book = library.pool.FindMessageTypeByName("library.v1.Book")
    assert of_responses(Comments(library.files)).message(book) == {
        **BOOK,
        "given": "given",
        "etag": "5d41402abc4b2a76",
        "pageToken": "b2Zmc2V0PTEwMA",
        "validateOnly": True,
    }


def test_example_can_lack_fields_at_the_top(library: DescriptorSet) -> None:
    level = library.pool.FindMessageTypeByName("library.v1.Level4")
    examples = of_requests(Comments(library.files))
    assert examples.message(level) == {"next": {"name": "name"}}
    assert examples.message(level, {"next"}) == {}
    assert examples.message(level, {"name"}) == {"next": {"name": "name"}}


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("title", "Middlemarch"),
        ("single", "SINGLE_UNSPECIFIED"),
        ("nothing", None),
        ("shelf_ids", ["01932c07-209b-7a3e-9d2f-3c5b8e1a4f60"]),
        ("empty", {}),
    ],
)
def test_single_field_has_an_example(library: DescriptorSet, name: str, example: Any) -> None:
    book = library.pool.FindMessageTypeByName("library.v1.Book")
    assert of_responses(Comments(library.files)).field(book.fields_by_name[name]) == example


@dataclass(frozen=True)
class Documented:
    """An operation of a document, and the route that a call of it reaches."""

    operation: dict[str, Any]
    route: Route
    codec: JsonCodec


def documented(variable: str) -> Iterator[Documented]:
    descriptors = DescriptorSet.parse(Path(os.environ[variable]).read_bytes())
    tree = compile_routes(descriptors)
    codec = JsonCodec(descriptors.pool)
    for path, item in make_document(descriptors, tree)["paths"].items():
        for method, operation in item.items():
            called = path
            for parameter in operation.get("parameters", ()):
                segment = quote(as_text(parameter.get("example", "any")), safe="")
                called = called.replace(f"{{{parameter['name']}}}", segment)
            match = tree.find(method.upper(), called)
            assert isinstance(match, Match), called
            yield Documented(operation, match.target, codec)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


ALL = [
    pytest.param(found, id=found.operation["operationId"])
    for variable in ("BAZAAR_DESCRIPTORS", "PROBE_DESCRIPTORS")
    for found in documented(variable)
]


@pytest.mark.parametrize("found", ALL)
def test_operation_is_reached_by_its_path(found: Documented) -> None:
    rpc = found.route.rpc.descriptor
    name = f"{rpc.containing_service.name}_{rpc.name}"
    assert found.operation["operationId"].startswith(name)


@pytest.mark.parametrize("found", ALL)
def test_example_of_a_parameter_is_accepted(found: Documented) -> None:
    request = found.route.rpc.request_class()
    by_name = {
        "_".join(field_path(found.route, name)): parameter
        for name, parameter in found.route.variables.items()
    }
    for parameter in found.operation.get("parameters", ()):
        if "example" in parameter and parameter["in"] == "path":
            name = parameter["name"]
            assign(name, by_name[name], request, [as_text(parameter["example"])])
        elif "example" in parameter:
            found.route.query.assign(request, [(parameter["name"], as_text(parameter["example"]))])


def field_path(route: Route, variable: str) -> list[str]:
    message = route.rpc.descriptor.input_type
    names = []
    for name in route.variables[variable].names:
        field = message.fields_by_name[name]
        names.append(field.json_name)
        message = field.message_type  # type: ignore[assignment]
    return names


@pytest.mark.parametrize("found", ALL)
def test_example_of_a_body_is_accepted(found: Documented) -> None:
    parts = RequestParts(found.route, {}, ())
    contents = found.operation.get("requestBody", {}).get("content", {})
    for media_type, content in contents.items():
        for record in records(media_type, content.get("example")):
            message = parts.message(orjson.dumps(record), media_type)
            body = found.route.body
            assert body is not None
            assert shown(found.codec, message, body.field) == record


@pytest.mark.parametrize("found", ALL)
def test_example_of_a_response_is_what_is_written(found: Documented) -> None:
    for status, response in found.operation["responses"].items():
        if not status.startswith("2"):
            continue
        for media_type, content in response.get("content", {}).items():
            media_type_or_array = (
                JSON_ARRAY
                if found.route.rpc.server_streaming and media_type == JSON
                else media_type
            )
            for record in records(media_type_or_array, content.get("example")):
                assert written(found, record) == record


def records(media_type: str, example: Any) -> list[Any]:
    if media_type == NDJSON:
        return [orjson.loads(line) for line in example.splitlines()]
    if media_type == EVENT_STREAM:
        data, end = (line for line in example.splitlines() if line.startswith("data: "))
        assert end == "data: {}"
        return [orjson.loads(data.removeprefix("data: "))]
    if media_type == JSON_ARRAY:
        return list(example)
    return [example] if media_type == JSON else []


def written(found: Documented, record: Any) -> Any:
    rpc, field = found.route.rpc, found.route.response.field
    response = rpc.response_class()
    merge = (
        found.codec.merger(rpc.descriptor.output_type)
        if field is None
        else found.codec.field_merger(field)
    )
    merge(record, response)
    return shown(found.codec, response, field)


def shown(codec: JsonCodec, message: Any, field: FieldDescriptor | None) -> Any:
    dump = codec.dumper(message.DESCRIPTOR) if field is None else codec.field_dumper(field)
    return orjson.loads(dump(message))
