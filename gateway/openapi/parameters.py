"""The parameters of an operation: path, query and headers."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi.comments import Comments
from gateway.openapi.examples import of_requests
from gateway.openapi.paths import PathParameter
from gateway.openapi.schemas import Schemas, exclusion
from gateway.openapi.values import NULL_VALUE, Schema
from gateway.routing.parameters import ParameterError, resolve
from gateway.routing.routes import HTTP_BODY, Route
from gateway.routing.update_mask import UPDATE_MASK
from gateway.upstream.descriptors import behaviors, is_output_only

MAX_NAMES = 4
"""How many names a query parameter of the document has; the gateway takes longer ones."""

MAX_QUERY_PARAMETERS = 100
"""How many of them an operation of the document has; the gateway takes all there are."""

Parameter = dict[str, Any]
Way = tuple[FieldDescriptor, ...]
"""The fields on the way to a parameter, its own last."""


class Parameters:
    """Makes the parameters of one document's operations."""

    def __init__(self, schemas: Schemas, comments: Comments) -> None:
        self._schemas = schemas
        self._comments = comments
        self._examples = of_requests(comments)

    def in_path(self, at: PathParameter) -> Parameter:
        """Return a parameter for a segment of the path."""
        parameter: Parameter = {"name": at.name, "in": "path", "required": True}
        if description := self._path_description(at):
            parameter["description"] = description
        schema: Schema = {"type": "string"}
        if at.field is not None and at.variable is None:
            schema = self._schemas.field(at.field)
            parameter["example"] = self._examples.field(at.field)
        if schema == {"type": "string"}:
            schema["minLength"] = 1
        parameter["schema"] = schema
        return parameter

    def in_query(self, route: Route) -> Iterator[Parameter]:
        """Yield what the query may set; fields of nested messages are named with dots."""
        return (self._query_parameter(route, way) for way in query_fields(route))

    def _query_parameter(self, route: Route, way: Way) -> Parameter:
        field = way[-1]
        name = ".".join(at.json_name for at in way)
        parameter: Parameter = {"name": name, "in": "query"}
        if description := self._query_description(route, way):
            parameter["description"] = description
        if all("REQUIRED" in behaviors(at) for at in way):
            parameter["required"] = True
            parameter["example"] = self._examples.field(field)
        if any(at.GetOptions().deprecated for at in way):
            parameter["deprecated"] = True
        if field.is_repeated:
            parameter.update({"style": "form", "explode": True})
        return {**parameter, "schema": self._schemas.field(field)}

    def _path_description(self, at: PathParameter) -> str:
        parts = []
        if at.field is not None:
            parts.append(self._comments.of(at.field.full_name))
        if at.variable is not None:
            parts.append(f"A part of `{at.variable.field_path}`.")
        if at.takes_rest:
            parts.append(
                "One segment; the gateway takes more, but OpenAPI cannot say a value with slashes."
            )
        return _joined(parts)

    def _query_description(self, route: Route, way: Way) -> str:
        parts = [self._comments.of(way[-1].full_name)]
        if len(way) == 1 and way[0].name == UPDATE_MASK and route.body and route.body.masked:
            parts.append("Without it, the fields that the body gives are changed.")
        parts.extend(exclusion(field) for field in way)
        return _joined(parts)


def query_fields(route: Route) -> Iterator[Way]:
    """Yield the way to each field that a query may set, the short ones first.

    These are all that have a text form and that neither path nor body binds. A message is not
    entered within itself, and there is a bound on what is deep or much.
    """
    return islice(_ways(route), MAX_QUERY_PARAMETERS)


def _ways(route: Route) -> Iterator[Way]:
    request = route.rpc.descriptor.input_type
    if route.body is not None and route.body.field is None:
        return
    bound = {parameter.path for parameter in route.variables.values()}
    if route.body is not None and route.body.field is not None:
        bound.add(route.body.field.name)
    waiting: deque[Way] = deque((field,) for field in request.fields)
    while waiting:
        way = waiting.popleft()
        path = ".".join(field.name for field in way)
        if path in bound or is_output_only(way[-1]):
            continue
        if _is_parameter(request, path):
            yield way
        elif (inner := _entered(request, way)) is not None:
            waiting.extend((*way, field) for field in inner.fields)


def _is_parameter(request: Descriptor, path: str) -> bool:
    try:
        kind = resolve(request, path).field.enum_type
    except ParameterError:
        return False
    # A NullValue has one value, and clients would write it as text of their own.
    return kind is None or kind.full_name != NULL_VALUE


def _entered(request: Descriptor, way: Way) -> Descriptor | None:
    """Return the message that a way leads to, if its fields are parameters too."""
    inner = way[-1].message_type
    outer = {request.full_name, *(at.message_type.full_name for at in way[:-1] if at.message_type)}
    if (
        inner is None
        or way[-1].is_repeated
        or inner.full_name in outer
        or inner.file.package == "google.protobuf"
        or inner.full_name == HTTP_BODY
        or len(way) == MAX_NAMES
    ):
        return None
    return inner


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)
