"""The routes of a descriptor set as a table for people."""

import textwrap
from collections.abc import Iterable, Iterator

from gateway.routing.bodies import BodyBinding
from gateway.routing.names import shortest_names
from gateway.routing.query_fields import query_fields
from gateway.routing.routes import Route

QUERY_WIDTH = 48
"""The width of the last column, in characters."""

_HEAD = ("METHOD", "PATH", "RPC", "STREAM", "BODY", "QUERY")
_GAP = "  "
_STREAMS = {
    (False, False): "unary",
    (True, False): "client",
    (False, True): "server",
    (True, True): "both",
}
"""By whether the client streams and whether the server streams."""


def write_table(routes: Iterable[Route]) -> str:
    """Return a line for each route in the order of paths, and more lines for long queries."""
    ordered = sorted(routes, key=lambda route: (route.template.text, route.http_method))
    services = shortest_names(route.rpc.service for route in ordered)
    rows: list[tuple[str, ...]] = [_HEAD]
    for route in ordered:
        rows.extend(_rows(route, services[route.rpc.service]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(f"{_line(row, widths)}\n" for row in rows)


def _rows(route: Route, service: str) -> Iterator[tuple[str, ...]]:
    cells = (
        route.http_method,
        route.template.text,
        f"{service}.{route.rpc.descriptor.name}",
        _STREAMS[route.rpc.client_streaming, route.rpc.server_streaming],
        _body(route.body),
    )
    first, *others = textwrap.wrap(", ".join(_query(route)), QUERY_WIDTH) or [""]
    yield (*cells, first)
    for line in others:
        yield (*[""] * len(cells), line)


def _line(row: Iterable[str], widths: Iterable[int]) -> str:
    return _GAP.join(map(str.ljust, row, widths)).rstrip()


def _body(body: BodyBinding | None) -> str:
    if body is None:
        return ""
    name = "*" if body.field is None else body.field.name
    return f"{name} (bytes)" if body.raw else name


def _query(route: Route) -> Iterable[str]:
    """Return the fields that a query may set; fields of a message are summed up as `name.*`."""
    paths = query_fields(route)
    return dict.fromkeys(path[0].name if len(path) == 1 else f"{path[0].name}.*" for path in paths)
