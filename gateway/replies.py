"""Whole HTTP answers, made from the answers of gRPC calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import falcon.asgi
from google.protobuf.message import Message

from gateway.errors import PROBLEM_JSON, Problem
from gateway.json_codec import JsonCodec
from gateway.routes import Route

JSON = "application/json"
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

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


def make_reply(codec: JsonCodec, route: Route, answer: Message) -> Reply:
    """Return the answer of a call as a whole HTTP answer."""
    if route.returns_nothing:
        return Reply(204, b"")
    if route.returns_raw:
        return Reply(200, raw_body(route, answer).data, {"Content-Type": raw_type(route, answer)})
    named = route.response_field
    body = codec.dump(answer) if named is None else codec.dump_field(answer, named)
    return Reply(200, body, {"Content-Type": JSON})


def raw_body(route: Route, answer: Message) -> Any:
    """Return the google.api.HttpBody of an answer."""
    named = route.response_field
    return answer if named is None else getattr(answer, named.name)


def raw_type(route: Route, answer: Message | None) -> str:
    """Return the content type that a google.api.HttpBody names, if it can stand in a header."""
    named: str = "" if answer is None else raw_body(route, answer).content_type
    return named if named and named.isascii() and named.isprintable() else BINARY
