"""The headers of operations: conditions, keys and positions that come in, and what goes out."""

from typing import Any

from gateway.calls.idempotency import HEADER, MAX_KEY_LENGTH, REPLAYED_HEADER
from gateway.calls.responses import is_tagged
from gateway.calls.resumption import find_resumption
from gateway.routing.routes import Route

Header = dict[str, Any]

_PRINTABLE = "^[ -~]+$"


def header_parameters(route: Route) -> list[Header]:
    """Return the headers that a client may send to a route."""
    conditions = route.preconditions
    parameters = []
    if _takes_key(route):
        parameters.append(
            _parameter(
                HEADER,
                "A key of the client's choice: a request that is sent again with it is performed"
                " once, and gets the first one's answer.",
                {"type": "string", "pattern": _PRINTABLE, "maxLength": MAX_KEY_LENGTH},
            )
        )
    if conditions.holder is not None:
        parameters.append(
            _parameter("If-Match", "The ETag that the resource must still have (RFC 9110).")
        )
    if conditions.reads and conditions.version is not None:
        parameters.append(
            _parameter("If-None-Match", "The ETag of what the client has: 304 if it is current.")
        )
    if find_resumption(route.rpc) is not None and not route.returns_raw:
        parameters.append(
            _parameter("Last-Event-ID", "The id of the last event: the stream goes on after it.")
        )
    return parameters


def answer_headers(route: Route) -> dict[str, Header]:
    """Return the headers that a success of a route may have."""
    headers: dict[str, Header] = {}
    if route.location is not None:
        headers["Location"] = _header("Where the new resource is.", "uri-reference")
    if is_tagged(route):
        headers["ETag"] = _header("The version of the resource.")
    if _takes_key(route):
        headers[REPLAYED_HEADER] = _header(
            f"`true` on an answer that is repeated for its {HEADER}."
        )
    return headers


def _takes_key(route: Route) -> bool:
    """Say whether a route heeds an Idempotency-Key."""
    streams = route.rpc.client_streaming or route.rpc.server_streaming
    return route.http_method == "POST" and not streams


def _parameter(name: str, description: str, schema: Header | None = None) -> Header:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": schema or {"type": "string"},
    }


def _header(description: str, form: str = "") -> Header:
    schema = {"type": "string", "format": form} if form else {"type": "string"}
    return {"description": description, "schema": schema}
