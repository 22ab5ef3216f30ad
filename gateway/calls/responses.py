"""Whole HTTP answers, written from the answers of gRPC calls as each route has it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import falcon.asgi
from google.protobuf.message import Message

from gateway.http.media_types import BINARY, JSON
from gateway.http.problems import PROBLEM_JSON, Problem
from gateway.protojson.codec import JsonCodec
from gateway.routing.location import Location
from gateway.routing.preconditions import entity_tag
from gateway.routing.routes import Route

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

RAW_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
)
"""Headers that keep raw bytes, whatever their type, from acting as a page of this origin."""


class Reply(NamedTuple):
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS

    def apply(self, resp: falcon.asgi.Response) -> None:
        """Make it the answer to a request."""
        resp.status = self.status
        resp.data = self.body
        for name, value in self.headers.items():
            resp.set_header(name, value)


def reply_of(problem: Problem) -> Reply:
    """Return a problem as a whole HTTP answer."""
    headers = {"Content-Type": PROBLEM_JSON, **problem.headers}
    return Reply(problem.status, problem.as_json(), headers)


class Replies:
    """Writes the answers of routes."""

    def __init__(self, codec: JsonCodec, routes: Iterable[Route]) -> None:
        self._writers = {route: _compile(codec, route) for route in routes}

    def make(
        self,
        route: Route,
        answer: Message,
        sent: Mapping[str, str] = NO_HEADERS,
        *,
        validated: bool = False,
    ) -> Reply:
        """Return the answer of a call as a whole HTTP answer.

        Headers that the service `sent` itself stand before those that the answer implies. What was
        only `validated` has created nothing.
        """
        return self._writers[route].write(answer, sent, validated=validated)


def is_tagged(route: Route) -> bool:
    """Say whether answers have the ETag of what they show.

    After a PUT RFC 9110 §9.3.4 forbids it to whoever may have changed what was sent. The answer to
    any other method is no representation of its target, but for that of what it created.
    """
    creates = route.location is not None and route.http_method != "PUT"
    tagged = creates or route.http_method in ("GET", "PATCH")
    return tagged and route.preconditions.version is not None


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the answers of one route."""

    status: int
    head: Callable[[Message], dict[str, str]]
    body: Callable[[Message], bytes]
    version: Callable[[Message], str] | None
    location: Location | None

    def write(self, answer: Message, sent: Mapping[str, str], *, validated: bool) -> Reply:
        headers = self.head(answer)
        body = self.body(answer)
        if validated:
            return Reply(self.status, body, headers)
        if self.version is not None and (version := self.version(answer)):
            headers["ETag"] = entity_tag(version)
        if self.location is not None and (path := self.location.path(answer)) is not None:
            headers["Location"] = path
        headers.update(sent)
        creates = self.location is not None and "Location" in headers
        return Reply(HTTPStatus.CREATED if creates else self.status, body, headers)


def _compile(codec: JsonCodec, route: Route) -> _Writer:
    version = route.preconditions.version if is_tagged(route) else None
    if route.returns_nothing:
        return _Writer(204, _no_head, lambda _answer: b"", version, route.location)
    named = route.response_field
    if route.returns_raw:
        prefix = "" if named is None else f"{named.name}."
        head = partial(_raw_head, attrgetter(f"{prefix}content_type"))
        return _Writer(200, head, attrgetter(f"{prefix}data"), version, route.location)
    dump = codec.dump if named is None else partial(codec.dump_field, field=named)
    return _Writer(200, _json_head, dump, version, route.location)


def _no_head(_answer: Message) -> dict[str, str]:
    return {}


def _json_head(_answer: Message) -> dict[str, str]:
    return {"Content-Type": JSON}


def _raw_head(read: Callable[[Message], str], answer: Message) -> dict[str, str]:
    return {"Content-Type": _header_type(read(answer)), **RAW_HEADERS}


def raw_type(route: Route, answer: Message | None) -> str:
    """Return the content type that a google.api.HttpBody names, if it can stand in a header."""
    if answer is None:
        return BINARY
    named = route.response_field
    raw: Any = answer if named is None else getattr(answer, named.name)
    return _header_type(raw.content_type)


def _header_type(content_type: str) -> str:
    usable = content_type and content_type.isascii() and content_type.isprintable()
    return content_type if usable else BINARY
