"""Path templates of http rules as OpenAPI writes paths.

In OpenAPI a parameter is one segment. So each `*` becomes a parameter, even within a variable of
several segments, and `**` becomes one of a single segment, because clients encode slashes.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import chain, count, repeat
from typing import cast
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.routing.routes import Route
from gateway.routing.templates import Template, Variable

REST = "**"

_WILDCARDS = ("*", REST)
_UNENCODED = "-._~!$&'()*+,;=:@"
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A segment of a path that the client fills in."""

    name: str
    """Chosen freely, and unique in the path."""
    field: FieldDescriptor | None
    """The field that the segment sets, if it is bound."""
    variable: Variable | None
    """The variable of several segments that it is a part of, if any."""
    takes_rest: bool
    """The gateway takes any number of segments here."""


def path_parameters(route: Route) -> list[PathParameter]:
    """Return the parameters of a path, in order."""
    found: dict[str, PathParameter] = {}
    segments = route.template.segments
    for position, segment in enumerate(segments):
        if segment in _WILDCARDS:
            variable = _variable_at(route.template, position)
            fields = [] if variable is None else fields_of(route, variable.field_path)
            whole = variable is not None and _length(route.template, variable) == 1
            wanted = _singular(segments[position - 1] if position else "")
            if whole:
                # Generated clients cannot fill in `{a.b}`; the name is the document's to choose.
                wanted = "_".join(field.json_name for field in fields)
            name = _free_name(wanted, found)
            found[name] = PathParameter(
                name=name,
                field=fields[-1] if fields else None,
                variable=None if whole else variable,
                takes_rest=segment == REST,
            )
    return list(found.values())


def fields_of(route: Route, variable: str) -> list[FieldDescriptor]:
    """Return the fields that lead to what a path variable sets, its own last."""
    fields: list[FieldDescriptor] = []
    message = route.rpc.descriptor.input_type
    for name in route.variables[variable].names:
        fields.append(message.fields_by_name[name])
        message = cast("Descriptor", fields[-1].message_type)
    return fields


def write_path(template: Template, names: Iterable[str]) -> str:
    """Return a path with a name for each parameter, for example `/v1/books/{bookId}:lend`."""
    left = iter(names)
    segments = (
        f"{{{next(left)}}}" if segment in _WILDCARDS else quote(segment, safe=_UNENCODED)
        for segment in template.segments
    )
    verb = f":{quote(template.verb, safe=_UNENCODED)}" if template.verb else ""
    return f"/{'/'.join(segments)}{verb}"


def shape_of(template: Template) -> str:
    """Return a path without the names of its parameters, by which OpenAPI distinguishes paths."""
    return write_path(template, repeat(""))


def _variable_at(template: Template, position: int) -> Variable | None:
    for variable in template.variables:
        if variable.start <= position < variable.start + _length(template, variable):
            return variable
    return None


def _length(template: Template, variable: Variable) -> int:
    return (len(template.segments) if variable.end is None else variable.end) - variable.start


def _singular(collection: str) -> str:
    """Return a name for the segment after that of a collection, a plural (AIP-122)."""
    words = "" if collection in _WILDCARDS else _NO_NAME.sub("_", collection).strip("_")
    return words.removesuffix("s") or "segment"


def _free_name(wanted: str, taken: Collection[str]) -> str:
    """Return the wanted name, with a number if it is taken."""
    names = chain([wanted], (f"{wanted}{number}" for number in count(2)))
    return next(name for name in names if name not in taken)
