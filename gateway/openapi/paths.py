"""Path templates of http rules as OpenAPI writes paths.

OpenAPI has one parameter a segment. So each `*` becomes one, also within a variable that takes many
segments; and `**` becomes a parameter of one segment, for clients encode the slashes of a value.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor

from gateway.descriptors import find_field
from gateway.templates import Template, Variable

_UNENCODED = "-._~!$&'()*+,;=:@"
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")
_WILDCARDS = ("*", "**")


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A segment of a path that the client fills in."""

    name: str
    """Free for the document to choose, and unique in the path."""
    variable: Variable | None
    """The variable that the segment belongs to, if it is bound."""
    is_whole: bool
    """The segment is all that the variable takes."""


def path_parameters(template: Template, request: Descriptor) -> list[PathParameter]:
    """Return the parameters of a path in order, named as in JSON where one is a whole field."""
    found: list[PathParameter] = []
    for position, segment in enumerate(template.segments):
        if segment in _WILDCARDS:
            variable = _variable_at(template, position)
            is_whole = variable is not None and _length(template, variable) == 1
            name = (
                _json_path(request, variable.field_path)
                if variable is not None and is_whole
                else _singular(template.segments[position - 1] if position else "")
            )
            taken = {parameter.name for parameter in found}
            found.append(PathParameter(_unique(name, taken), variable, is_whole))
    return found


def write_path(template: Template, names: Iterable[str]) -> str:
    """Return the path of a document, with a name for each parameter."""
    left = iter(names)
    segments = (
        f"{{{next(left)}}}" if segment in _WILDCARDS else quote(segment, safe=_UNENCODED)
        for segment in template.segments
    )
    verb = f":{quote(template.verb, safe=_UNENCODED)}" if template.verb else ""
    return f"/{'/'.join(segments)}{verb}"


def shape_of(template: Template) -> str:
    """Return what OpenAPI tells paths apart by: all but the names of parameters."""
    return write_path(template, repeat(""))


def _variable_at(template: Template, position: int) -> Variable | None:
    for variable in template.variables:
        end = len(template.segments) if variable.end is None else variable.end
        if variable.start <= position < end:
            return variable
    return None


def _length(template: Template, variable: Variable) -> int:
    return (len(template.segments) if variable.end is None else variable.end) - variable.start


def _json_path(message: Descriptor, field_path: str) -> str:
    """Return the JSON names of a field path, joined as a name: clients cannot fill in `{a.b}`."""
    return "_".join(_json_names(message, field_path))


def _json_names(message: Descriptor, field_path: str) -> Iterator[str]:
    at: Descriptor | None = message
    for name in field_path.split("."):
        field = None if at is None else find_field(at, name)
        if field is None:
            raise AssertionError(f"{field_path} was resolved before")
        yield field.json_name
        at = field.message_type


def _singular(literal: str) -> str:
    """Return a name for a segment that follows a collection's (AIP-122: collections are plural)."""
    name = _NO_NAME.sub("_", "" if literal in _WILDCARDS else literal).strip("_")
    return name.removesuffix("s") or "segment"


def _unique(name: str, taken: set[str]) -> str:
    number = 2
    unique = name
    while unique in taken:
        unique = f"{name}{number}"
        number += 1
    return unique
