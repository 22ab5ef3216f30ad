"""The fields that the query of a route may set, as listed by describe and the OpenAPI document."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.routing.bodies import HTTP_BODY
from gateway.routing.fields import behaviors
from gateway.routing.parameters import ParameterError, resolve
from gateway.routing.routes import Route

MAX_LISTED_DEPTH = 4
"""How many names a listed parameter has; the gateway takes longer ones."""

MAX_LISTED_PARAMETERS = 100
"""How many parameters of a route are listed; the gateway takes all of them."""

FieldPath = tuple[FieldDescriptor, ...]
"""The fields that lead to a parameter, its own last."""


def query_fields(route: Route) -> Iterator[FieldPath]:
    """Yield the path to each field that a query may set, short paths first.

    These are the fields that have a string representation and are bound by neither path nor body.
    Fields of a message within itself are left out.
    """
    return islice(_paths(route), MAX_LISTED_PARAMETERS)


def _paths(route: Route) -> Iterator[FieldPath]:
    request = route.rpc.descriptor.input_type
    if route.body is not None and route.body.field is None:
        return
    bound = {parameter.path for parameter in route.variables.values()}
    if route.body is not None and route.body.field is not None:
        bound.add(route.body.field.name)
    waiting: deque[FieldPath] = deque((field,) for field in request.fields)
    while waiting:
        path = waiting.popleft()
        dotted = ".".join(field.name for field in path)
        if dotted in bound or "OUTPUT_ONLY" in behaviors(path[-1]):
            continue
        if _is_parameter(request, dotted):
            yield path
        elif (inner := _nested(request, path)) is not None:
            waiting.extend((*path, field) for field in inner.fields)


def _is_parameter(request: Descriptor, path: str) -> bool:
    try:
        kind = resolve(request, path).field.enum_type
    except ParameterError:
        return False
    # A NullValue has one value, which clients would write as a string of their own.
    return kind is None or kind.full_name != "google.protobuf.NullValue"


def _nested(request: Descriptor, path: FieldPath) -> Descriptor | None:
    """Return the message that a path leads to, if its fields are parameters too."""
    inner = path[-1].message_type
    outer = {request.full_name, *(at.message_type.full_name for at in path[:-1] if at.message_type)}
    if (
        inner is None
        or path[-1].is_repeated
        or inner.full_name in outer
        or inner.file.package == "google.protobuf"
        or inner.full_name == HTTP_BODY
        or len(path) == MAX_LISTED_DEPTH
    ):
        return None
    return inner
