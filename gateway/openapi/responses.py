"""The responses of an operation: successes, and the failures that its comments name."""

from typing import Any

from gateway.calls.event_stream import END_ID
from gateway.http.problems import PROBLEM_JSON
from gateway.openapi.access import refusals
from gateway.openapi.contents import Contents
from gateway.openapi.failures import named_failures
from gateway.openapi.headers import response_headers, retry_header
from gateway.openapi.problems import COMMON_RESPONSE, LIMITED_RESPONSE, problem
from gateway.openapi.schemas import Schemas
from gateway.routing.routes import Route

Responses = dict[str, dict[str, Any]]
"""By status."""

_STREAM = (
    "A stream in the format that Accept chooses: NDJSON, server-sent events, or one JSON array."
    " A failure after it began is its last record."
)
_REFUSED_RAW_BODY = "`INVALID_ARGUMENT` if the body has a Content-Encoding."
_REFUSED_BODY = (
    "`INVALID_ARGUMENT` if the body has another Content-Type, or none, or a Content-Encoding."
)


def successes(route: Route, contents: Contents) -> Responses:
    """Return the responses to requests that succeed."""
    if route.rpc.server_streaming:
        return _stream(route, contents)
    if route.response.empty:
        return {"204": {"description": "Done."}}
    headers = response_headers(route)
    response: dict[str, Any] = {"content": contents.of_response(route)}
    if headers:
        response["headers"] = headers
    if route.location is not None:
        return _creation(route, response)
    responses = {"200": {"description": "Done.", **response}}
    if route.preconditions.reads and route.preconditions.version is not None:
        responses["304"] = {"description": "The copy of the client is current.", "headers": headers}
    return responses


def failures(route: Route, schemas: Schemas) -> Responses:
    """Return the responses to requests that fail: those that comments name, and any other."""
    comment_of = schemas.comments.of
    named = named_failures(comment_of(route.rpc.name), comment_of(route.rpc.service))
    if route.preconditions.holder is not None:
        named.setdefault(412, "`ABORTED` if the resource has another ETag than If-Match names.")
    if route.body is not None:
        named.setdefault(415, _REFUSED_RAW_BODY if route.body.raw else _REFUSED_BODY)
    named = {**refusals(route), **named}
    content = {PROBLEM_JSON: {"schema": problem(schemas)}}
    responses: Responses = {
        str(status): {"description": text, "content": content}
        for status, text in sorted(named.items())
    }
    responses.setdefault("429", {"$ref": f"#/components/responses/{LIMITED_RESPONSE}"})
    responses["default"] = {"$ref": f"#/components/responses/{COMMON_RESPONSE}"}
    return responses


def _stream(route: Route, contents: Contents) -> Responses:
    description = "A stream of bytes." if route.response.raw_type is not None else _STREAM
    responses = {"200": {"description": description, "content": contents.of_response(route)}}
    if route.resumption is not None:
        ended = f"The stream was complete already: Last-Event-ID is `{END_ID}`."
        responses["204"] = {"description": ended}
    return responses


def _creation(route: Route, response: dict[str, Any]) -> Responses:
    """Return 201, and 200 for requests that create nothing with a path of its own."""
    nothing = (
        "Valid; nothing was created, as the request demands."
        if route.may_validate_only
        else "Done; what was created has no path of its own."
    )
    responses = {
        "200": {"description": nothing, "content": response["content"]},
        "201": {"description": "Created.", **response},
    }
    if route.rpc.may_be_accepted:
        headers = {**response["headers"], "Retry-After": retry_header()}
        accepted = {"description": "Accepted, and not done yet.", **response, "headers": headers}
        responses["202"] = accepted
    return responses
