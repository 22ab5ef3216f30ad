"""What an operation may answer: its successes, and the failures that its comments name."""

from typing import Any

from gateway.calls.resumption import END_ID, find_resumption
from gateway.openapi.comments import Comments
from gateway.openapi.contents import Contents
from gateway.openapi.failures import named_failures
from gateway.openapi.headers import answer_headers
from gateway.openapi.problems import COMMON_RESPONSE, problem_content
from gateway.openapi.schemas import Schemas
from gateway.routing.routes import Route

Responses = dict[str, dict[str, Any]]
"""By status."""

_STREAM = (
    "A stream. Accept chooses its form: lines of JSON, server-sent events, or one JSON array."
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
    if route.returns_nothing:
        return {"204": {"description": "Done."}}
    headers = answer_headers(route)
    response: dict[str, Any] = {"content": contents.of_answer(route)}
    if headers:
        response["headers"] = headers
    if route.location is not None:
        return _creation(route, response)
    responses = {"200": {"description": "Done.", **response}}
    if route.preconditions.reads and route.preconditions.version is not None:
        responses["304"] = {"description": "The client has what is current.", "headers": headers}
    return responses


def failures(route: Route, schemas: Schemas, comments: Comments) -> Responses:
    """Return the responses to requests that fail: those that comments name, and any other."""
    method = route.rpc.descriptor
    told = named_failures(comments.of(method.full_name), comments.of(route.rpc.service))
    if route.preconditions.holder is not None:
        told.setdefault(412, "`ABORTED` if the resource has another ETag than If-Match names.")
    if route.body is not None:
        told.setdefault(415, _REFUSED_RAW_BODY if route.body.raw else _REFUSED_BODY)
    content = problem_content(schemas)
    responses: Responses = {
        str(status): {"description": text, "content": content}
        for status, text in sorted(told.items())
    }
    responses["default"] = {"$ref": f"#/components/responses/{COMMON_RESPONSE}"}
    return responses


def _stream(route: Route, contents: Contents) -> Responses:
    description = "Bytes as they come." if route.returns_raw else _STREAM
    responses = {"200": {"description": description, "content": contents.of_answer(route)}}
    if find_resumption(route.rpc) is not None and not route.returns_raw:
        ended = f"The stream was complete before: Last-Event-ID is `{END_ID}`."
        responses["204"] = {"description": ended}
    return responses


def _creation(route: Route, response: dict[str, Any]) -> Responses:
    """Return 201 and, for what is told to have created nothing that has a path, 200."""
    nothing = (
        "Valid: nothing was created, as the request wanted it."
        if route.may_validate_only
        else "Done; what was created has no path of its own."
    )
    return {
        "200": {"description": nothing, "content": response["content"]},
        "201": {"description": "Created.", **response},
    }
