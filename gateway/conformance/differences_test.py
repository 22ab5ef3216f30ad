"""Where grpc-gateway (2.x) and Envoy's gRPC-JSON transcoder differ, or this gateway from both.

Each row says what the two do with their default settings, and what is done here and why; its cases
show it. The authority is google/api/http.proto, then ProtoJSON, then the RFCs of HTTP; where those
are silent, a request that could be misunderstood is refused. What all three do alike is in the
other conformance tests.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Case:
    """A request and its expected outcome; what is None is not checked."""

    method: str
    path: str
    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    request: Mapping[str, Any] | None = None
    """The expected gRPC request; there must be none if the gateway refuses, or for OPTIONS."""
    reason: str | None = None
    response: bytes | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """What each of the three does, and the reason for the choice here."""

    topic: str
    grpc_gateway: str
    envoy: str
    here: str
    cases: tuple[Case, ...]


PATHS = (
    Difference(
        topic="two templates match",
        grpc_gateway="the one that was registered last",
        envoy="literals before variables; of two that are alike, neither",
        here="literals before variables, segment by segment; two that are alike are refused at the"
        " start, so that no order of files decides what a URL means",
        cases=(
            Case("GET", "/v1/probes/special", 200, request={}),
            Case("GET", "/v1/probes/other", 200, request={"id": "other"}),
        ),
    ),
    Difference(
        topic="an encoded slash in a variable of one segment",
        grpc_gateway="decoded before the path is split, so that it separates segments",
        envoy="decoded into the value",
        here="decoded into the value, as http.proto says: an id may hold whatever it likes",
        cases=(Case("GET", "/v1/probes/a%2Fb", 200, request={"id": "a/b"}),),
    ),
    Difference(
        topic="other reserved characters in a variable of several segments",
        grpc_gateway="decoded",
        envoy="left encoded",
        here="decoded but for the slash, as http.proto says",
        cases=(Case("GET", "/v1/files/a%2Fb%3Fc", 200, request={"id": "a%2Fb?c"}),),
    ),
    Difference(
        topic="GET of a path that ends in a verb which takes POST",
        grpc_gateway="gets the resource whose id ends in the verb",
        envoy="no match; the request goes on as it came",
        here="405: it tells a client that confused the method what is wrong",
        cases=(
            Case("GET", "/v1/probes/7:reset", 405, response_headers={"Allow": "OPTIONS, POST"}),
            Case("GET", "/v1/probes/7%3Areset", 200, request={"id": "7:reset"}),
            Case("GET", "/v1/probes/7:other", 200, request={"id": "7:other"}),
        ),
    ),
    Difference(
        topic="a slash at the end",
        grpc_gateway="one more segment, which is empty",
        envoy="cut off",
        here="another path, which nothing is at: one resource has one URL",
        cases=(Case("GET", "/v1/probes/7/", 404, reason="UNKNOWN_PATH"),),
    ),
    Difference(
        topic="a method that the path does not take",
        grpc_gateway="501; a POST of a form may be taken for a GET",
        envoy="the request goes on as it came",
        here="405 with Allow (RFC 9110 §15.5.6)",
        cases=(
            Case("PUT", "/v1/waits", 405, response_headers={"Allow": "OPTIONS, POST"}),
            Case(
                "POST",
                "/v1/probes/7:tags",
                405,
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "X-HTTP-Method-Override": "GET",
                },
            ),
        ),
    ),
    Difference(
        topic="HEAD",
        grpc_gateway="501",
        envoy="the request goes on as it came",
        here="GET without the body (RFC 9110 §9.3.2); 405 for a stream, whose headers nobody knows"
        " before the call, and which nothing would end without a body",
        cases=(
            Case("HEAD", "/v1/probes/7", 200, request={"id": "7"}, response=b""),
            Case("HEAD", "/v1/probes:watch", 405, response_headers={"Allow": "GET, OPTIONS"}),
        ),
    ),
    Difference(
        topic="a preflight of a rule for any method",
        grpc_gateway="no such rule",
        envoy="makes the call, unless a filter before it responds",
        here="a response without a call: it asks what a page may do (Fetch §4.8)",
        cases=(
            Case(
                "OPTIONS",
                "/v1/anything",
                204,
                headers={
                    "Origin": "https://shop.example",
                    "Access-Control-Request-Method": "PUT",
                },
                response_headers={"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
            ),
        ),
    ),
)

QUERIES = (
    Difference(
        topic="an unknown parameter",
        grpc_gateway="passed over (issue 1210)",
        envoy="the request goes on untranscoded; by setting passed over or refused",
        here="400 that names it: a filter that is misspelt would list everything",
        cases=(Case("GET", "/v1/probes/7?page_sise=1", 400, reason="UNKNOWN_PARAMETER"),),
    ),
    Difference(
        topic="a parameter that the path or the body gives too",
        grpc_gateway="passed over",
        envoy="put beside it, and one of the two stays",
        here="400: a client that says two things is asked which",
        cases=(
            Case("GET", "/v1/probes/7?id=8", 400, reason="UNKNOWN_PARAMETER"),
            Case("POST", "/v1/probes?text=a", 400, content=b"{}", reason="UNKNOWN_PARAMETER"),
        ),
    ),
    Difference(
        topic="a map",
        grpc_gateway="counts[a]=1",
        envoy="refused",
        here="refused: http.proto has none",
        cases=(Case("GET", "/v1/probes/7?counts%5Ba%5D=1", 400, reason="UNKNOWN_PARAMETER"),),
    ),
    Difference(
        topic="a Struct or Value",
        grpc_gateway="JSON text",
        envoy="refused",
        here="refused: http.proto has only messages there that are strings in JSON",
        cases=(
            Case("GET", "/v1/probes/7?attributes=%7B%7D", 400, reason="UNKNOWN_PARAMETER"),
            Case("GET", "/v1/probes/7?anything=1", 400, reason="UNKNOWN_PARAMETER"),
        ),
    ),
    Difference(
        topic="a boolean other than true or false",
        grpc_gateway="1, t, T, TRUE and more",
        envoy="true and false only",
        here="true and false only, as in ProtoJSON",
        cases=(Case("GET", "/v1/probes/7?bool_value=1", 400, reason="INVALID_FIELD"),),
    ),
    Difference(
        topic="a Duration",
        grpc_gateway="as Go writes it: 1h30m",
        envoy="as ProtoJSON writes it: 5400s",
        here="as ProtoJSON writes it, in the query as in a body",
        cases=(
            Case("GET", "/v1/probes/7?span=5400s", 200, request={"id": "7", "span": "5400s"}),
            Case("GET", "/v1/probes/7?span=1h30m", 400, reason="INVALID_FIELD"),
        ),
    ),
    Difference(
        topic="a number that is no value of an enum",
        grpc_gateway="refused",
        envoy="taken",
        here="taken: enums of proto3 are open, and the service may know more than the gateway",
        cases=(Case("GET", "/v1/probes/7?kind=77", 200, request={"id": "7", "kind": 77}),),
    ),
    Difference(
        topic="a FieldMask",
        grpc_gateway="proto names only",
        envoy="as in ProtoJSON: lowerCamelCase",
        here="either, since clients write both in a URL",
        cases=(
            Case("GET", "/v1/probes/7?mask=a_b", 200, request={"id": "7", "mask": "aB"}),
            Case("GET", "/v1/probes/7?mask=aB", 200, request={"id": "7", "mask": "aB"}),
        ),
    ),
)

BODIES = (
    Difference(
        topic="an unknown field",
        grpc_gateway="passed over",
        envoy="passed over",
        here="400 that names it, for the reason of the unknown parameter",
        cases=(Case("POST", "/v1/probes", 400, content=b'{"prise": 1}', reason="UNKNOWN_FIELD"),),
    ),
    Difference(
        topic="a field that path and body give differently",
        grpc_gateway="the path's value",
        envoy="the body's value; by setting refused",
        here="the path's value: whoever decides by the URL who may do what has to be right",
        cases=(Case("PUT", "/v1/probes/7", 200, content=b'{"id": "8"}', request={"id": "7"}),),
    ),
    Difference(
        topic="an integer with a fraction or an exponent that comes out whole",
        grpc_gateway="taken",
        envoy="taken",
        here="refused: 1.0 of a count is a mistake more often than a wish",
        cases=(
            Case("PUT", "/v1/probes/7/count", 400, content=b"1.0", reason="INVALID_FIELD"),
            Case("PUT", "/v1/probes/7/count", 400, content=b"1e3", reason="INVALID_FIELD"),
        ),
    ),
    Difference(
        topic="a body although the rule has none",
        grpc_gateway="ignored",
        envoy="ignored",
        here="400: what was sent was meant",
        cases=(
            Case("GET", "/v1/probes/7", 400, content=b"{}", reason="UNEXPECTED_BODY"),
            Case("DELETE", "/v1/probes/7", 400, content=b"{}", reason="UNEXPECTED_BODY"),
        ),
    ),
    Difference(
        topic="the type of a body",
        grpc_gateway="any is JSON, except for forms",
        envoy="any is JSON",
        here="415 unless it is named application/json: a page of another site can send text/plain,"
        " or a Blob without a type, and must not pass for a client",
        cases=(
            Case(
                "POST",
                "/v1/probes",
                415,
                content=b"{}",
                headers={},
                reason="UNSUPPORTED_MEDIA_TYPE",
            ),
            Case(
                "POST",
                "/v1/probes",
                415,
                content=b"{}",
                headers={"Content-Type": "text/plain"},
                reason="UNSUPPORTED_MEDIA_TYPE",
            ),
        ),
    ),
    Difference(
        topic="a compressed body",
        grpc_gateway="read as if it were not",
        envoy="read as if it were not; by a filter before it decompressed",
        here="415 with Accept-Encoding (RFC 9110 §12.5.3): what it holds has no bound",
        cases=(
            Case(
                "POST",
                "/v1/probes",
                415,
                content=gzip.compress(b"{}"),
                headers=JSON | {"Content-Encoding": "gzip"},
                reason="UNSUPPORTED_CONTENT_ENCODING",
                response_headers={"Accept-Encoding": "identity"},
            ),
            Case(
                "POST",
                "/v1/probes",
                200,
                content=b"{}",
                headers=JSON | {"Content-Encoding": "identity"},
            ),
        ),
    ),
    Difference(
        topic="PATCH without an update_mask",
        grpc_gateway="filled from the body; a Struct is entered (issues 1488, 1549, 3078)",
        envoy="left empty (issue 10235)",
        here="filled: each map, repeated field and well-known type is one path",
        cases=(
            Case(
                "PATCH",
                "/v1/probes/7",
                200,
                content=b'{"tags": ["a"], "counts": {"a": 1}, "attributes": {"a": {"b": 1}}}',
                response=b'{"id":"7","tags":["tags","counts","attributes"]}',
            ),
        ),
    ),
    Difference(
        topic="PATCH that names nothing to change",
        grpc_gateway="an empty update_mask",
        envoy="an empty update_mask",
        here="400: some services take an empty mask for one of all fields; only an empty body,"
        " which changes nothing (RFC 7396), goes on without a mask",
        cases=(
            Case(
                "PATCH", "/v1/probes/7", 400, content=b'{"state": "s"}', reason="NOTHING_TO_CHANGE"
            ),
            Case("PATCH", "/v1/probes/7?update_mask=,", 400, content=b'{"text": "a"}'),
            Case("PATCH", "/v1/probes/7?update_mask=price", 400, content=b'{"text": "a"}'),
            Case("PATCH", "/v1/probes/7", 200, content=b"{}", response=b'{"id":"7"}'),
        ),
    ),
)

RESPONSES = (
    Difference(
        topic="fields with their default values",
        grpc_gateway="written",
        envoy="left out",
        here="left out, as ProtoJSON does; a field with presence is written once it is set",
        cases=(
            Case("GET", "/v1/probes/7?int32_value=0", 200, response=b'{"id":"7"}'),
            Case("GET", "/v1/probes/7?maybe=0", 200, response=b'{"id":"7","maybe":0}'),
        ),
    ),
    Difference(
        topic="google.protobuf.Empty",
        grpc_gateway="200 (issue 240)",
        envoy="200",
        here="204 without a body (RFC 9110 §15.3.5)",
        cases=(Case("DELETE", "/v1/probes/7", 204, response=b""),),
    ),
    Difference(
        topic="a stream",
        grpc_gateway='lines of {"result": ...}',
        envoy="one JSON array; by setting lines or events",
        here="as Accept asks, lines unless it does; a record is the message itself",
        cases=(
            Case("GET", "/v1/probes:watch?count=1", 200, response=b'{"int32Value":1,"text":""}\n'),
            Case(
                "GET",
                "/v1/probes:watch?count=1",
                200,
                headers={"Accept": "application/json"},
                response_headers={"Content-Type": "application/json"},
            ),
        ),
    ),
    Difference(
        topic="a failure",
        grpc_gateway="a google.rpc.Status in JSON, its details as they are",
        envoy="headers only; by setting a google.rpc.Status in JSON",
        here="a problem (RFC 9457) with what a client may act on",
        cases=(
            Case(
                "POST",
                "/v1/failures/9",
                400,
                content=b'{"message": "m", "reason": "R"}',
                request={"code": 9, "message": "m", "reason": "R"},
                reason="R",
                response_headers={"Content-Type": "application/problem+json"},
            ),
        ),
    ),
    Difference(
        topic="metadata of the request",
        grpc_gateway="Grpc-Metadata-* bare, and the permanent headers under a prefix",
        envoy="every header as it is",
        here="an allow-list: nobody becomes x-admin by saying so",
        cases=(
            Case("GET", "/v1/probes/7", 200, headers={"Grpc-Metadata-X-Admin": "1"}),
            Case("GET", "/v1/probes/7", 200, headers={"X-Admin": "1"}),
        ),
    ),
)

DIFFERENCES = (*PATHS, *QUERIES, *BODIES, *RESPONSES)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{difference.topic}, {number}")
        for difference in DIFFERENCES
        for number, case in enumerate(difference.cases, start=1)
    ],
)
async def test_difference(setup: Setup, case: Case) -> None:
    response = await setup.client.request(
        case.method, case.path, content=case.content, headers=case.headers
    )
    assert response.status_code == case.status, response.text
    if case.request is not None:
        assert setup.request() == case.request
    elif response.is_error or case.method == "OPTIONS":
        assert setup.servicer.calls == []
    if case.reason is not None:
        assert response.json()["reason"] == case.reason
    if case.response is not None:
        assert response.content == case.response
    for name, value in case.response_headers.items():
        assert response.headers[name] == value
    if setup.servicer.calls:
        assert "x-admin" not in setup.metadata()
