"""Where grpc-gateway (2.x) and Envoy's gRPC-JSON transcoder read or write bodies differently.

Each row says what the other two do, what is done here, and why; its cases show it. The authority is
google/api/http.proto, then ProtoJSON, then the RFCs of HTTP; where those are silent, a request that
could be misunderstood is refused. What all three do alike is in the other conformance tests.
"""

import gzip

import pytest

from gateway.testing.differences import JSON, Case, Difference, case_parameters, try_case
from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

BODIES = (
    Difference(
        topic="an unknown field",
        grpc_gateway="ignored",
        envoy="ignored",
        here="400 that names it, for the same reason as an unknown parameter",
        cases=(Case("POST", "/v1/probes", 400, content=b'{"prise": 1}', reason="UNKNOWN_FIELD"),),
    ),
    Difference(
        topic="a field with different values in path and body",
        grpc_gateway="the path's value",
        envoy="the body's value; refused by setting",
        here="the path's value: whoever authorizes requests by their URLs relies on it",
        cases=(Case("PUT", "/v1/probes/7", 200, content=b'{"id": "8"}', request={"id": "7"}),),
    ),
    Difference(
        topic="a whole number that is written with a fraction or an exponent",
        grpc_gateway="accepted",
        envoy="accepted",
        here="refused: 1.0 for a count is more often a mistake than intended",
        cases=(
            Case("PUT", "/v1/probes/7/count", 400, content=b"1.0", reason="INVALID_FIELD"),
            Case("PUT", "/v1/probes/7/count", 400, content=b"1e3", reason="INVALID_FIELD"),
        ),
    ),
    Difference(
        topic="a body although the rule has none",
        grpc_gateway="ignored",
        envoy="ignored",
        here="400: a client that sends a body expects it to have an effect",
        cases=(
            Case("GET", "/v1/probes/7", 400, content=b"{}", reason="UNEXPECTED_BODY"),
            Case("DELETE", "/v1/probes/7", 400, content=b"{}", reason="UNEXPECTED_BODY"),
        ),
    ),
    Difference(
        topic="the media type of a body",
        grpc_gateway="any body is JSON, except for forms",
        envoy="any body is JSON",
        here="415 unless it is application/json: a page of another site can send text/plain, or a"
        " Blob without a type, in the name of its visitor",
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
        grpc_gateway="read as if it were not compressed",
        envoy="read as if it were not compressed; a filter in front of it may decompress it",
        here="415 with Accept-Encoding (RFC 9110 §12.5.3): the decoded size has no bound",
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
        grpc_gateway="filled from the body, down into a Struct (issues 1488, 1549, 3078)",
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
        here="400: some services treat an empty mask as all fields; only an empty body, which"
        " changes nothing (RFC 7396), is forwarded without a mask",
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
        here="left out, as in ProtoJSON; a field with presence is written once it is set",
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
        envoy="one JSON array; lines or events by setting",
        here="as Accept demands, lines by default; a record is the message itself",
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
        grpc_gateway="a google.rpc.Status in JSON with its details unchanged",
        envoy="headers only; a google.rpc.Status in JSON by setting",
        here="a problem (RFC 9457) with what a client can act on",
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
        grpc_gateway="Grpc-Metadata-* without its prefix, and the permanent headers with one",
        envoy="every header unchanged",
        here="an allow-list: no client becomes x-admin by sending a header",
        cases=(
            Case("GET", "/v1/probes/7", 200, headers={"Grpc-Metadata-X-Admin": "1"}),
            Case("GET", "/v1/probes/7", 200, headers={"X-Admin": "1"}),
        ),
    ),
)


@pytest.mark.parametrize("case", case_parameters([*BODIES, *RESPONSES]))
async def test_body_difference_holds(setup: Setup, case: Case) -> None:
    assert await try_case(setup, case) == case
    if setup.servicer.calls:
        assert "x-admin" not in setup.metadata()
