"""The headers of operations: those that clients may send, and those of successful responses."""

from collections.abc import Iterator
from typing import Any

from gateway.calls.idempotency import HEADER, MAX_KEY_LENGTH, REPLAYED_HEADER
from gateway.routing.cookie import SESSION_HEADER, SESSION_VALUE, Cookie
from gateway.routing.routes import Route

Header = dict[str, Any]

_PRINTABLE = "^[ -~]+$"


def header_parameters(route: Route) -> Iterator[Header]:
    """Yield the headers that a client may send to a route."""
    conditions = route.preconditions
    if route.takes_idempotency_key:
        yield _parameter(
            HEADER,
            "A key of the client's choice: a request that is repeated with it is performed once,"
            " and gets the response of the first.",
            {"type": "string", "pattern": _PRINTABLE, "maxLength": MAX_KEY_LENGTH},
        )
    if conditions.holder is not None:
        yield _parameter("If-Match", "The ETag that the resource must still have (RFC 9110).")
    if conditions.reads and conditions.version is not None:
        yield _parameter("If-None-Match", "The ETag of the client's copy: 304 if it is current.")
    if route.resumption is not None:
        yield _parameter("Last-Event-ID", "The id of the last event: the stream resumes after it.")
    if route.cookie is not None:
        yield _parameter(
            SESSION_HEADER, _describe(route.cookie), {"type": "string", "enum": [SESSION_VALUE]}
        )
    for name in route.rpc.request_headers:
        yield _parameter(name.title(), "Passed on to the service.")


def response_headers(route: Route) -> dict[str, Header]:
    """Return the headers that a successful response of a route may have."""
    headers: dict[str, Header] = {}
    if route.location is not None:
        headers["Location"] = _header("The path of the new resource.", "uri-reference")
    if route.version is not None:
        headers["ETag"] = _header("The version of the resource.")
    if route.cookie is not None:
        headers["Set-Cookie"] = _header(
            f"`{route.cookie.name}`, if {SESSION_HEADER} asks for it;"
            " over TLS with the prefix `__Secure-` or `__Host-`."
        )
    if route.takes_idempotency_key:
        headers[REPLAYED_HEADER] = _header(
            f"`true` on a response that is repeated for its {HEADER}."
        )
    return headers


def _describe(cookie: Cookie) -> str:
    """Return what happens with a cookie."""
    name = f"the cookie `{cookie.name}`"
    parts = [f"`{SESSION_VALUE}`, for browsers, has secrets in {name}, which scripts cannot read."]
    if cookie.request_field:
        parts.append(f"It fills `{cookie.request_field}` if that is empty.")
    if cookie.response_field:
        parts.append(f"It gets `{cookie.response_field}`, which is left out of the body.")
    if cookie.deleted:
        parts.append("It is deleted.")
    return " ".join(parts)


def retry_header() -> Header:
    """Return the header of a response that is not final."""
    return _header("After how many seconds to look again.")


def _parameter(name: str, description: str, schema: Header | None = None) -> Header:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": schema or {"type": "string"},
    }


def _header(description: str, format_name: str = "") -> Header:
    schema = {"type": "string", "format": format_name} if format_name else {"type": "string"}
    return {"description": description, "schema": schema}
