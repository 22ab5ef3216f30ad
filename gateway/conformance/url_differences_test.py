"""Where grpc-gateway (2.x) and Envoy's gRPC-JSON transcoder read URLs and methods differently.

Each row says what the other two do, what is done here, and why; its cases show it. The authority is
google/api/http.proto, then ProtoJSON, then the RFCs of HTTP; where those are silent, a request that
could be misunderstood is refused. What all three do alike is in the other conformance tests.
"""

import pytest

from gateway.testing.differences import Case, Difference, case_parameters, try_case
from gateway.testing.fixtures import Setup

pytest_plugins = ("gateway.testing.fixtures",)
pytestmark = pytest.mark.asyncio(loop_scope="module")

PATHS = (
    Difference(
        topic="two templates match",
        grpc_gateway="the one registered last",
        envoy="literals before variables; of two equal ones, neither",
        here="literals before variables, segment by segment; two equal ones are refused at the"
        " start, so that the meaning of a URL never depends on the order of files",
        cases=(
            Case("GET", "/v1/probes/special", 200, request={}),
            Case("GET", "/v1/probes/other", 200, request={"id": "other"}),
        ),
    ),
    Difference(
        topic="an encoded slash in a variable of one segment",
        grpc_gateway="decoded before the path is split, so that it separates segments",
        envoy="decoded into the value",
        here="decoded into the value, as http.proto demands: an id may contain any character",
        cases=(Case("GET", "/v1/probes/a%2Fb", 200, request={"id": "a/b"}),),
    ),
    Difference(
        topic="other reserved characters in a variable of several segments",
        grpc_gateway="decoded",
        envoy="left encoded",
        here="decoded except for the slash, as http.proto demands",
        cases=(Case("GET", "/v1/files/a%2Fb%3Fc", 200, request={"id": "a%2Fb?c"}),),
    ),
    Difference(
        topic="GET of a path that ends in a verb which takes POST",
        grpc_gateway="returns the resource whose id ends in the verb",
        envoy="no match; the request is passed on unchanged",
        here="405: the client learns that the method is wrong",
        cases=(
            Case("GET", "/v1/probes/7:reset", 405, response_headers={"Allow": "OPTIONS, POST"}),
            Case("GET", "/v1/probes/7%3Areset", 200, request={"id": "7:reset"}),
            Case("GET", "/v1/probes/7:other", 200, request={"id": "7:other"}),
        ),
    ),
    Difference(
        topic="a trailing slash",
        grpc_gateway="one more segment, which is empty",
        envoy="removed",
        here="a different path, for which there is no route: a resource has one URL",
        cases=(Case("GET", "/v1/probes/7/", 404, reason="UNKNOWN_PATH"),),
    ),
    Difference(
        topic="a method that the path does not take",
        grpc_gateway="501; a POST of a form may be treated as a GET",
        envoy="the request is passed on unchanged",
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
        envoy="the request is passed on unchanged",
        here="GET without the body (RFC 9110 §9.3.2); 405 for a stream, whose headers are unknown"
        " before its call, and whose call nothing would end without a body",
        cases=(
            Case("HEAD", "/v1/probes/7", 200, request={"id": "7"}, response=b""),
            Case("HEAD", "/v1/probes:watch", 405, response_headers={"Allow": "GET, OPTIONS"}),
        ),
    ),
    Difference(
        topic="a preflight of a rule for any method",
        grpc_gateway="has no such rules",
        envoy="makes the call, unless a filter in front of it responds",
        here="a response without a call: a preflight asks what a page may do (Fetch §4.8)",
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
        grpc_gateway="ignored (issue 1210)",
        envoy="the request is passed on untranscoded; ignored or refused by setting",
        here="400 that names it: a misspelt filter would list everything",
        cases=(Case("GET", "/v1/probes/7?page_sise=1", 400, reason="UNKNOWN_PARAMETER"),),
    ),
    Difference(
        topic="a parameter for a field that the path or the body sets",
        grpc_gateway="ignored",
        envoy="added to the message, in which one of the two wins",
        here="400: the request contradicts itself",
        cases=(
            Case("GET", "/v1/probes/7?id=8", 400, reason="UNKNOWN_PARAMETER"),
            Case("POST", "/v1/probes?text=a", 400, content=b"{}", reason="UNKNOWN_PARAMETER"),
        ),
    ),
    Difference(
        topic="a map",
        grpc_gateway="counts[a]=1",
        envoy="refused",
        here="refused: http.proto defines no syntax for it",
        cases=(Case("GET", "/v1/probes/7?counts%5Ba%5D=1", 400, reason="UNKNOWN_PARAMETER"),),
    ),
    Difference(
        topic="a Struct or Value",
        grpc_gateway="JSON text",
        envoy="refused",
        here="refused: of messages, http.proto allows those that are strings in JSON",
        cases=(
            Case("GET", "/v1/probes/7?attributes=%7B%7D", 400, reason="UNKNOWN_PARAMETER"),
            Case("GET", "/v1/probes/7?anything=1", 400, reason="UNKNOWN_PARAMETER"),
        ),
    ),
    Difference(
        topic="a boolean other than true or false",
        grpc_gateway="1, t, T, TRUE and more",
        envoy="only true and false",
        here="only true and false, as in ProtoJSON",
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
        topic="a number that no value of an enum has",
        grpc_gateway="refused",
        envoy="accepted",
        here="accepted: enums of proto3 are open, and the service may know more values",
        cases=(Case("GET", "/v1/probes/7?kind=77", 200, request={"id": "7", "kind": 77}),),
    ),
    Difference(
        topic="a FieldMask",
        grpc_gateway="proto names only",
        envoy="as in ProtoJSON: lowerCamelCase",
        here="either, because clients write both in URLs",
        cases=(
            Case("GET", "/v1/probes/7?mask=a_b", 200, request={"id": "7", "mask": "aB"}),
            Case("GET", "/v1/probes/7?mask=aB", 200, request={"id": "7", "mask": "aB"}),
        ),
    ),
)


@pytest.mark.parametrize("case", case_parameters([*PATHS, *QUERIES]))
async def test_url_difference_holds(setup: Setup, case: Case) -> None:
    assert await try_case(setup, case) == case
