"""Whole HTTP responses, written from the responses of gRPC calls by the rules of their routes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import falcon.asgi
from google.protobuf.message import Message

from gateway.http.conditions import entity_tag
from gateway.http.media_types import BINARY, JSON
from gateway.http.problems import PROBLEM_JSON, Problem
from gateway.routing.bodies import ResponseBody
from gateway.routing.routes import Route

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

RAW_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
)
"""Headers that keep raw bytes of any type from acting as a page of this origin."""


class Response(NamedTuple):
    """A whole HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS

    def apply(self, resp: falcon.asgi.Response) -> None:
        """Make it the response to the current request."""
        resp.status = self.status
        resp.data = self.body
        resp.set_headers(self.headers)


def problem_response(problem: Problem) -> Response:
    """Return a problem as a whole HTTP response."""
    headers = {"Content-Type": PROBLEM_JSON, **problem.headers}
    return Response(problem.status, problem.as_json(), headers)


def write_response(
    route: Route,
    message: Message,
    sent: Mapping[str, str] = NO_HEADERS,
    *,
    validated: bool = False,
) -> Response:
    """Return the response of a successful call.

    Headers that the service `sent` take precedence over those that the message implies. A request
    that was only `validated` has created nothing.
    """
    headers = _content_headers(route.response, message)
    status = 204 if route.response.empty else 200
    body = b"" if route.response.empty else route.response.write(message)
    if validated:
        return Response(status, body, headers)
    if route.version is not None and (version := route.version(message)):
        headers["ETag"] = entity_tag(version)
    if route.location is not None and (path := route.location.path(message)) is not None:
        headers["Location"] = path
    headers.update(sent)
    if route.location is not None and "Location" in headers:
        status = 201
    if "Retry-After" in headers:
        status = 202
    return Response(status, body, headers)


def raw_content_type(response: ResponseBody, message: Message) -> str:
    """Return the content type of a google.api.HttpBody if it is valid in a header."""
    named = "" if response.raw_type is None else response.raw_type(message)
    return named if named and named.isascii() and named.isprintable() else BINARY


def _content_headers(response: ResponseBody, message: Message) -> dict[str, str]:
    if response.raw_type is not None:
        return {"Content-Type": raw_content_type(response, message), **RAW_HEADERS}
    return {} if response.empty else {"Content-Type": JSON}
