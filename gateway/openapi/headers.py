"""The headers of operations: those that clients may send, and those of successful responses."""

from collections.abc import Iterator
from typing import Any

from gateway.calls.idempotency import HEADER, MAX_KEY_LENGTH, REPLAYED_HEADER
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
    for name in route.rpc.request_headers:
        yield _parameter(name.title(), "Passed on to the service.")


def response_headers(route: Route) -> dict[str, Header]:
    """Return the headers that a successful response of a route may have."""
    headers: dict[str, Header] = {}
    if route.location is not None:
        headers["Location"] = _header("The path of the new resource.", "uri-reference")
    if route.version is not None:
        headers["ETag"] = _header("The version of the resource.")
    if route.takes_idempotency_key:
        headers[REPLAYED_HEADER] = _header(
            f"`true` on a response that is repeated for its {HEADER}."
        )
    return headers


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
