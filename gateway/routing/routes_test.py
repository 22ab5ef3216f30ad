"""Rules that are refused at start-up, by name, and rules that are not."""

import pytest
from google.api import annotations_pb2 as http_annotations_pb2
from google.protobuf import descriptor_pb2, text_format
from probe.v1 import probe_pb2
from rest.v1 import annotations_pb2

from gateway.routing.routes import compile_routes
from gateway.testing.harness import descriptor_set
from gateway.upstream.descriptors import DescriptorSet, DescriptorSetError

FILE = """
name: "books.proto"
package: "books"
dependency: "google/api/annotations.proto"
dependency: "rest/v1/annotations.proto"
syntax: "proto3"
message_type {
  name: "Book"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "id" }
  field { name: "tags" number: 2 type: TYPE_STRING label: LABEL_REPEATED json_name: "tags" }
  field {
    name: "part" number: 3 type: TYPE_MESSAGE type_name: ".books.Book"
    label: LABEL_OPTIONAL json_name: "part"
  }
}
service {
  name: "BookService"
  method {
    name: "GetBook" input_type: ".books.Book" output_type: ".books.Book" %s
  }
  method {
    name: "ListBooks" input_type: ".books.Book" output_type: ".books.Book"
    options { [google.api.http] { %s } }
  }
}
"""


RULE = 'get: "/v1/books"'


def books(options: str, rule: str = RULE) -> DescriptorSet:
    """Make a descriptor set with the options of GetBook and the http rule of ListBooks."""
    file = text_format.Parse(FILE % (options, rule), descriptor_pb2.FileDescriptorProto())
    files = descriptor_set(probe_pb2.DESCRIPTOR, annotations_pb2.DESCRIPTOR)
    files.file.append(file)
    return DescriptorSet(files)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ('get: "books"', "must begin with a slash"),
        ('get: "/v1/{id=**}/pages"', r"\*\* must be the last segment"),
        ('get: "/v1/{name}"', "the path variable name is not known"),
        ('get: "/v1/{tags}"', "the path variable tags is repeated"),
        ('get: "/v1/{part}"', "the path variable part is a message"),
        ('get: "/v1/{part.name}"', "the path variable part.name is not known"),
        ('get: "/v1/{id.name}"', "the path variable id.name is not known"),
        ('post: "/v1/a" body: "name"', "books.Book has no field name"),
        ('get: "/v1/a" response_body: "name"', "books.Book has no field name"),
        (
            'get: "/v1/books"',
            r"GET /v1/books: books\.BookService\.GetBook takes the same requests with /v1/books$",
        ),
        ('get: "/v1/a" additional_bindings { body: "id" }', "a binding has no pattern"),
        (
            'get: "/v1/a" additional_bindings { get: "/v1/a" }',
            r"GET /v1/a: books\.BookService\.GetBook takes",
        ),
        ('get: "/healthz"', "/healthz is the gateway's own"),
        ('get: "/v1/a" additional_bindings { post: "/d%6Fcs" }', "/docs is the gateway's own"),
        (
            'get: "/v1/a"'
            ' additional_bindings { get: "/v1/b" additional_bindings { get: "/v1/c" } }',
            "must not nest",
        ),
    ],
)
def test_rule_that_cannot_be_served_is_refused_by_name(rule: str, why: str) -> None:
    descriptors = books(f"options {{ [google.api.http] {{ {rule} }} }}")
    with pytest.raises(DescriptorSetError, match=rf"^books\.BookService\.\w+Books?: .*{why}"):
        compile_routes(descriptors, own_paths=("/healthz", "/docs"))


@pytest.mark.parametrize(
    "template", ["/{id}", "/{id=**}", "/healthz/{id}", "/healthz:check", "/docs"]
)
def test_only_a_literal_path_is_the_gateways_own(template: str) -> None:
    rule = f'options {{ [google.api.http] {{ get: "{template}" }} }}'
    compile_routes(books(rule), own_paths=("/healthz", "/readyz"))


def test_head_of_a_stream_is_refused() -> None:
    rule = 'options { [google.api.http] { custom { kind: "HEAD" path: "/v1/a" } } }'
    compile_routes(books(rule))
    with pytest.raises(DescriptorSetError, match="GetBook: HEAD /v1/a: its response has no body"):
        compile_routes(books(f"server_streaming: true {rule}"))


OPTION = 'options { [google.api.http] { post: "/v1/made" body: "*" } [rest.v1.location]: "%s" }'


def test_location_may_be_any_path_with_a_get() -> None:
    routes = compile_routes(books(OPTION % "/v1/books/{id}", 'get: "/v1/books/{id}"'))
    (made,) = [route for route in routes.targets if route.template.text == "/v1/made"]
    assert made.location is not None
    assert made.location.path(made.rpc.response_class(id="7")) == "/v1/books/7"


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("/v1/books/{id}", "no GET is served at its location /v1/books/{id}"),
        ("/v1/made", "no GET is served at its location /v1/made"),
        ("/v1/{name}", "the variable name of its location is not known"),
        ("/v1/*", "a wildcard that no field fills"),
        ("books", "must begin with a slash"),
    ],
)
def test_location_that_leads_nowhere_is_refused_by_name(location: str, why: str) -> None:
    with pytest.raises(DescriptorSetError, match=rf"^books\.BookService\.GetBook: .*{why}"):
        compile_routes(books(OPTION % location))


@pytest.mark.parametrize(
    "options",
    [
        'options { [google.api.http] { get: "/v1/a" } [rest.v1.location]: "/v1/books" }',
        "server_streaming: true " + OPTION % "/v1/books",
    ],
)
def test_location_of_a_method_that_creates_nothing_is_refused(options: str) -> None:
    with pytest.raises(DescriptorSetError, match="GetBook: a stream or a GET creates nothing"):
        compile_routes(books(options))


@pytest.mark.parametrize(
    "name", ["X-Signature", "x signature", "", "cookie", "authorization", "grpc-status", "a-bin"]
)
def test_a_header_that_cannot_be_metadata_is_refused_by_name(name: str) -> None:
    option = f'[rest.v1.request_headers]: "{name}"'
    descriptors = books(f'options {{ [google.api.http] {{ get: "/v1/a" }} {option} }}')
    with pytest.raises(DescriptorSetError, match=rf"GetBook: the header '{name}' "):
        compile_routes(descriptors)


LIMIT = 'options { [google.api.http] { get: "/v1/a" } [rest.v1.rate_limit] { %s } }'


def test_rate_limit_counts_clients_and_values_of_a_field() -> None:
    option = 'client_limit: "9/minute" field: "id" field_limit: "3/minute; 5/hour"'
    option += ' field_total_limit: "50/hour" account_limit: "7/day"'
    routes = compile_routes(books(LIMIT % option)).targets
    (route,) = [route for route in routes if route.rate_limit is not None]
    limit, request = route.rate_limit, route.rpc.request_class()
    assert limit is not None
    assert [quota.name for quota in limit.client("a").quotas] == ["GetBook-client-60s"]
    assert [quota.name for quota in limit.account("a").quotas] == ["GetBook-account-86400s"]
    assert list(limit.values(request, "a")) == []
    value, total = limit.values(route.rpc.request_class(id="7"), "a")
    assert [quota.name for quota in value.quotas] == ["GetBook-id-60s", "GetBook-id-3600s"]
    assert [quota.name for quota in total.quotas] == ["GetBook-id-total-3600s"]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ('client_limit: "often"', "must be numbers of requests per time"),
        ('client_limit: "1/day" field: "id"', "field and field_limit go together"),
        ('client_limit: "1/day" field_limit: "1/day"', "field and field_limit go together"),
        ('field: "name" field_limit: "1/day"', "there is no string field name"),
        ('field: "tags" field_limit: "1/day"', "there is no string field tags"),
        ('field: "part" field_limit: "1/day"', "there is no string field part"),
        ('field_total_limit: "1/day"', "field_total_limit needs a field"),
        ('account_limit: "often"', "must be numbers of requests per time"),
        ('field: "id" field_limit: "0/day"', "must be numbers of requests per time"),
    ],
)
def test_rate_limit_that_cannot_be_counted_is_refused_by_name(option: str, why: str) -> None:
    with pytest.raises(DescriptorSetError, match=rf"GetBook: rate_limit: {why}"):
        compile_routes(books(LIMIT % option))


def test_rate_limit_of_a_field_of_a_stream_is_refused() -> None:
    option = LIMIT % 'field: "id" field_limit: "1/day"'
    with pytest.raises(DescriptorSetError, match="fields of streams are not counted"):
        compile_routes(books(f"server_streaming: true {option}"))


COOKIE = """options {
  [google.api.http] { get: "/v1/sessions/a" }
  %s
  [rest.v1.cookie] { %s }
}"""
NOT_RECORDED = "[rest.v1.not_recorded]: true"
NAMED = 'name: "a" path: "/v1/sessions"'


@pytest.mark.parametrize(
    "option",
    [
        'name: "a" path: "/v1/sessions" request_field: "id" response_field: "id"',
        'name: "a" path: "/v1/sessions/a" request_field: "id" deleted: true',
        'name: "a" path: "/" request_field: "id"',
        'name: "a" path: "/v2" response_field: "id"',
    ],
)
def test_cookie_is_taken_from_and_put_into_strings(option: str) -> None:
    routes = compile_routes(books(COOKIE % (NOT_RECORDED, option))).targets
    (route,) = [route for route in routes if route.cookie is not None]
    assert route.template.text == "/v1/sessions/a"


@pytest.mark.parametrize(
    ("recorded", "option", "why"),
    [
        ("", NAMED, "must be unary and not_recorded"),
        (NOT_RECORDED, 'path: "/v1/sessions"', "the cookie must have a name and a path"),
        (NOT_RECORDED, 'name: "a b" path: "/v1"', "the cookie must have a name and a path"),
        (NOT_RECORDED, 'name: "a" path: "/v1; Domain=b"', "must have a name and a path"),
        (NOT_RECORDED, f'{NAMED} request_field: "name"', "has no string field name"),
        (NOT_RECORDED, f'{NAMED} response_field: "tags"', "has no string field tags"),
        (NOT_RECORDED, f'{NAMED} expire_time_field: "id"', "has no Timestamp id"),
        (
            NOT_RECORDED,
            'name: "a" path: "/v1/session" request_field: "id"',
            "/v1/sessions/a is not within the path /v1/session of its cookie",
        ),
    ],
)
def test_cookie_that_cannot_work_is_refused_by_name(recorded: str, option: str, why: str) -> None:
    with pytest.raises(DescriptorSetError, match=f"GetBook: .*{why}"):
        compile_routes(books(COOKIE % (recorded, option)))


def test_number_of_the_option_may_be_an_option_of_somebody_else() -> None:
    """Anybody may use extension numbers from 50000 on."""
    text = FILE % (OPTION % "/v1/nowhere", RULE)
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    file.dependency[:] = ["google/api/annotations.proto", "google/protobuf/descriptor.proto"]
    file.extension.add(
        name="audit",
        number=annotations_pb2.LOCATION_FIELD_NUMBER,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        extendee=".google.protobuf.MethodOptions",
    )
    files = descriptor_set(http_annotations_pb2.DESCRIPTOR)
    files.file.append(file)
    assert all(route.location is None for route in compile_routes(DescriptorSet(files)).targets)


def test_stream_of_requests_without_a_body_is_refused() -> None:
    rule = 'client_streaming: true options { [google.api.http] { get: "/v1/a" } }'
    with pytest.raises(DescriptorSetError, match="GetBook: a stream of requests needs a body"):
        compile_routes(books(rule))


def test_method_without_a_rule_is_not_served() -> None:
    assert [rpc.name for rpc in books("").methods() if rpc.service == "books.BookService"] == [
        "books.BookService.ListBooks"
    ]


def test_incomplete_descriptor_set_is_refused() -> None:
    files = descriptor_set(probe_pb2.DESCRIPTOR)
    missing = files.file.pop(0)
    why = rf"imports {missing.name}, .* protoc with --include_imports$"
    with pytest.raises(DescriptorSetError, match=why):
        DescriptorSet(files)


def test_bytes_other_than_a_descriptor_set_are_refused() -> None:
    with pytest.raises(DescriptorSetError, match="not a FileDescriptorSet"):
        DescriptorSet.parse(b"\xff\xff")
