"""Secrets that can be recognized wherever they turn up, and requests that send them everywhere.

The requests come from the OpenAPI document of a running API, so that new routes have some as well.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

Kind = Literal["card", "password", "token", "email"]
KINDS: tuple[Kind, ...] = ("card", "password", "token", "email")

SECRET_FIELDS = frozenset({"password", "currentPassword", "newPassword", "refreshToken", "token"})
"""Fields whose values are never stored as they are."""

_DECISIVE_HEADERS = ("Authorization", "If-Match", "If-None-Match", "Last-Event-ID")
"""Headers that no request is served with when they have a canary, beside those of the document."""
_OTHER_HEADERS = (
    *("Cookie", "Forwarded", "Origin", "Referer", "User-Agent"),
    *("X-Forwarded-For", "X-Request-Id", "X-Unknown"),
)

_UNIQUE_FIELDS = frozenset({"email", "idempotencyKey", "sku"})
_JSON = {"Content-Type": "application/json"}
_UNKNOWN = "unknown"
_CORE = re.compile(r"(?=(zq[0-9a-f]{14}|4[0-9]{15}))")
_BYTES = re.compile(r"\\x((?:[0-9a-f]{2})+)")


@dataclass(frozen=True, slots=True)
class Canary:
    """A value that is sent once, at one place of one request."""

    kind: Kind
    core: str
    """The part of the value that no encoding changes, and that exists only once."""
    route: str
    place: str
    """`path`, `query`, `header`, `field` of a body, or `body`."""
    name: str = ""
    """The name of the parameter, the header or the field, or what is special about it."""

    def __str__(self) -> str:
        return f"{self.kind} in {self.place} {self.name} of {self.route}"


@dataclass(frozen=True, slots=True)
class Request:
    """A request with canaries."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class Canaries:
    """All canaries that were made."""

    def __init__(self) -> None:
        self.made: list[Canary] = []

    def make(self, kind: Kind, route: str, place: str, name: str) -> str:
        """Return a new value, to be sent at a place of a route."""
        core = _make_core(kind)
        text = {
            "card": core,
            "password": f"Canary {core}!",
            # As long as a signed token is.
            "token": f"eyJhbGciOiJFUzI1NiJ9.{core * 12}.{core * 5}",
            "email": f"{core}@example.com",
        }[kind]
        self.made.append(Canary(kind, core, route, place, name))
        return text

    def find_in(self, text: str) -> list[Canary]:
        """Return the canaries that a text contains, also in hexadecimal, as PostgreSQL shows bytes.

        They may be within other characters, and percent-encoded.
        """
        shown = (bytes.fromhex(run).decode(errors="replace") for run in _BYTES.findall(text))
        found = {core for part in (text, *shown) for core in _CORE.findall(part)}
        return [canary for canary in self.made if canary.core in found]


def _make_core(kind: Kind) -> str:
    if kind != "card":
        return f"zq{secrets.token_hex(7)}"
    digits = [4, *(secrets.randbelow(10) for _ in range(14))]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[::2])
    check = -(sum(digits[1::2]) + sum(doubled)) % 10
    return "".join(map(str, [*digits, check]))


def make_requests(
    document: Mapping[str, Any], canaries: Canaries, known: Mapping[str, str]
) -> Iterator[Request]:
    """Yield the requests that send every kind of canary at every place of every route.

    `known` has values for path parameters and for fields, by name, without which a service would
    look no further.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = _Route(method.upper(), path, operation, canaries, known)
            for kind in KINDS:
                yield from route.requests(kind)


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    path: str
    operation: Mapping[str, Any]
    canaries: Canaries
    known: Mapping[str, str]

    def requests(self, kind: Kind) -> Iterator[Request]:
        """Yield requests with one canary each."""
        yield from self._with_paths(kind)
        yield from self._with_queries(kind)
        yield from self._with_headers(kind)
        for media_type, content in self._contents().items():
            for body in self._bodies(kind, content.get("example")):
                yield self._request({"Content-Type": media_type}, body)

    def _with_paths(self, kind: Kind) -> Iterator[Request]:
        for name in self._parameters("path"):
            replaced = {**self.known, name: self._make(kind, "path", name)}
            yield Request(self.method, self._fill(replaced), _JSON, b"{}")
        longer = f"{self._fill(self.known)}/{quote(self._make(kind, 'path', 'longer'), safe='')}"
        yield Request(self.method, longer)

    def _with_queries(self, kind: Kind) -> Iterator[Request]:
        path = self._fill(self.known)
        for name in (*self._parameters("query"), _UNKNOWN):
            value = quote(self._make(kind, "query", name))
            yield Request(self.method, f"{path}?{name}={value}", _JSON, b"{}")
        name = quote(self._make(kind, "query", "name"))
        yield Request(self.method, f"{path}?{name}=1", _JSON, b"{}")

    def _with_headers(self, kind: Kind) -> Iterator[Request]:
        yield self._request({name: self._make(kind, "header", name) for name in _OTHER_HEADERS})
        for name in {*self._parameters("header"), *_DECISIVE_HEADERS}:
            value = self._make(kind, "header", name)
            value = f"Bearer {value}" if name == "Authorization" else value
            yield self._request({name: value})
        for name in ("Accept", "Content-Type"):
            yield self._request({name: f"text/{self._make(kind, 'header', name)}"})

    def _bodies(self, kind: Kind, example: Any) -> Iterator[bytes]:
        if isinstance(example, str):  # A line of a stream.
            example = json.loads(example)
        if isinstance(example, dict):
            for body in _replace_each(example, lambda name: self._make(kind, "field", name)):
                yield _dump(_adapt(body, example, self.known))
            yield _dump({**example, _UNKNOWN: self._make(kind, "body", "unknown field")})
            yield _dump({**example, self._make(kind, "body", "unknown name"): "1"})
        yield _dump(self._make(kind, "body", "string"))
        yield f'{{"email": "{self._make(kind, "body", "truncated")}'.encode()
        name = json.dumps(self._make(kind, "body", "repeated name"))
        yield f"{{{name}: 1, {name}: 2}}".encode()
        yield f"password={quote(self._make(kind, 'body', 'form'))}".encode()
        yield self._make(kind, "body", "plain text").encode()

    def _request(self, headers: Mapping[str, str], content: bytes | None = None) -> Request:
        if content is None:
            content = self._usual_content()
        return Request(self.method, self._fill(self.known), {**_JSON, **headers}, content)

    def _usual_content(self) -> bytes:
        content: Mapping[str, Any] = next(iter(self._contents().values()), {})
        example = content.get("example", {})
        if isinstance(example, str):
            return example.encode()
        return _dump(_adapt(example, example, self.known))

    def _contents(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.operation.get("requestBody", {}).get("content", {})
        return found

    def _parameters(self, place: str) -> list[str]:
        parameters = self.operation.get("parameters", ())
        return [parameter["name"] for parameter in parameters if parameter["in"] == place]

    def _make(self, kind: Kind, place: str, name: str) -> str:
        return self.canaries.make(kind, f"{self.method} {self.path}", place, name)

    def _fill(self, values: Mapping[str, str]) -> str:
        path = self.path
        for name in self._parameters("path"):
            path = path.replace(f"{{{name}}}", quote(values[name], safe=""))
        return path


def _replace_each(value: Any, make: Callable[[str], str], name: str = "") -> Iterator[Any]:
    """Yield a copy of a JSON value for each string in it, replaced by what its field gets."""
    if isinstance(value, str):
        yield make(name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            for replaced in _replace_each(inner, make, key):
                yield {**value, key: replaced}
    elif isinstance(value, list):
        for replaced in _replace_each(value[0], make, name):
            yield [replaced, *value[1:]]


def _adapt(value: Any, example: Any, known: Mapping[str, str]) -> Any:
    """Replace what is as in the example, but has to exist, or must not exist yet."""
    if isinstance(value, dict):
        return {
            name: _adapt_field(name, inner, example[name], known) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_adapt(value[0], example[0], known)]
    return value


def _adapt_field(name: str, value: Any, example: Any, known: Mapping[str, str]) -> Any:
    if value == example and name in known:
        return known[name]
    if value == example and name in _UNIQUE_FIELDS:
        return f"{secrets.token_hex(8)}@example.org"
    return _adapt(value, example, known)


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()
