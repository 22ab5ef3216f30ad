"""Fields of a request that are given as strings: path variables and query parameters.

A parameter is a path of fields, by proto or JSON names, to a scalar, a repeated scalar, or a
well-known type that has a string representation.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.http.problems import Problem, invalid_field
from gateway.protojson.errors import Violation, excerpt
from gateway.protojson.kinds import is_map, is_wrapper
from gateway.protojson.scalars import scalar_reader
from gateway.protojson.string_values import FILLERS
from gateway.protojson.text import check_string
from gateway.routing.fields import find_field

MAX_PATH_LENGTH = 10
"""How many names a parameter may have; recursive messages would allow any number."""

_BOOLEANS = {"true": True, "false": False}


class ParameterError(Exception):
    """A path is not a parameter of the message; the text is the reason, as a predicate."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field that can be set from strings."""

    names: tuple[str, ...]
    """The proto names that lead to the field, its own last."""
    path: str
    """The same, joined by dots."""
    field: FieldDescriptor
    repeated: bool
    oneofs: tuple[tuple[str, str], ...]
    """The path of each oneof that the parameter goes through, and the member that it sets."""
    parse: Callable[[str], Any]

    def assign(self, message: Message, texts: Sequence[str]) -> None:
        """Set the field from one string, or from several if it is repeated.

        Raises:
            Violation: a string is not a value of the field.
        """
        *parents, leaf = self.names
        for name in parents:
            message = getattr(message, name)
            message.SetInParent()
        if self.repeated:
            getattr(message, leaf).extend([self.parse(text) for text in texts])
            return
        value = self.parse(texts[0])
        if isinstance(value, Message):
            getattr(message, leaf).CopyFrom(value)
        else:
            setattr(message, leaf, value)


def resolve(message: Descriptor, path: str) -> Parameter:
    """Find the parameter that a dotted path leads to.

    Raises:
        ParameterError: there is no such field, or it has no string representation.
    """
    given = path.split(".")
    if len(given) > MAX_PATH_LENGTH:
        raise ParameterError("has too many parts")
    fields: list[FieldDescriptor] = []
    at: Descriptor | None = message
    for name in given:
        field = None if at is None else find_field(at, name)
        if field is None or (fields and fields[-1].is_repeated):
            raise ParameterError("is not known")
        fields.append(field)
        at = None if _is_string(field) else field.message_type
    leaf = fields[-1]
    if at is not None or is_map(leaf):
        raise ParameterError("is a message and cannot be given as text")
    names = tuple(field.name for field in fields)
    return Parameter(
        names=names,
        path=".".join(names),
        field=leaf,
        repeated=leaf.is_repeated,
        oneofs=tuple(_oneofs(fields)),
        parse=_parser(leaf),
    )


class Query:
    """The query parameters that one route takes."""

    def __init__(self, message: Descriptor, bound: Iterable[str]) -> None:
        """Take every field of a message but the paths in `bound` and what lies below them."""
        self._message = message
        self._bound = tuple(bound)
        self._resolve = lru_cache(maxsize=256)(self._resolve_unbound)

    def assign(self, message: Message, pairs: Iterable[tuple[str, str]]) -> None:
        """Set the fields that the pairs of a query name.

        Raises:
            Problem: a parameter is unknown, invalid or given too often. The problem names it as the
                client does, by its proto name or its JSON name.
        """
        given: dict[str, tuple[str, Parameter, list[str]]] = {}
        for name, text in pairs:
            try:
                parameter = self._resolve(name)
            except ParameterError as error:
                raise invalid_field(excerpt(name), str(error), "UNKNOWN_PARAMETER") from error
            given.setdefault(parameter.path, (name, parameter, []))[2].append(text)
        chosen: dict[str, str] = {}
        for name, parameter, texts in given.values():
            if len(texts) > 1 and not parameter.repeated:
                raise _exclusive(name, "is given more than once")
            for oneof, member in parameter.oneofs:
                if chosen.setdefault(oneof, member) != member:
                    raise _exclusive(name, "excludes another parameter that is given")
            assign(name, parameter, message, texts)

    def _resolve_unbound(self, name: str) -> Parameter:
        parameter = resolve(self._message, name)
        for bound in self._bound:
            if f"{parameter.path}.".startswith(f"{bound}."):
                raise ParameterError("is given by the path or the body")
        return parameter


def assign(name: str, parameter: Parameter, message: Message, texts: Sequence[str]) -> None:
    """Set a parameter from strings; `name` is what the client calls it.

    Raises:
        Problem: a string is not a value of the field.
    """
    try:
        parameter.assign(message, texts)
    except Violation as violation:
        raise problem_of(violation, name) from violation


def problem_of(violation: Violation, root: str = "") -> Problem:
    """Return the problem of a value: 422 for a number that is out of range, otherwise 400."""
    status = 422 if violation.reason == "OUT_OF_RANGE" else 400
    return invalid_field(violation.path(root), violation.rule, violation.reason, status=status)


def _exclusive(name: str, rule: str) -> Problem:
    return invalid_field(name, rule, "REPEATED_PARAMETER")


def _oneofs(fields: list[FieldDescriptor]) -> Iterator[tuple[str, str]]:
    path = ""
    for field in fields:
        if field.containing_oneof is not None:
            yield f"{path}{field.containing_oneof.name}", field.name
        path = f"{path}{field.name}."


def _is_string(field: FieldDescriptor) -> bool:
    """Return whether a single value of a field has a string representation."""
    kind = field.message_type
    return kind is None or is_wrapper(kind) or kind.full_name in FILLERS


def _parser(field: FieldDescriptor) -> Callable[[str], Any]:
    kind = field.message_type
    if kind is None:
        return _scalar_parser(field)
    message_class = message_factory.GetMessageClass(kind)
    if kind.full_name == "google.protobuf.FieldMask":
        return partial(_parse_mask, message_class)
    if is_wrapper(kind):
        parse = _scalar_parser(kind.fields_by_name["value"])
        return lambda text: message_class(value=parse(text))
    return partial(_parse_well_known, message_class, FILLERS[kind.full_name])


def _scalar_parser(field: FieldDescriptor) -> Callable[[str], Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _parse_string
    read = scalar_reader(field)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda text: read(_BOOLEANS.get(text, text))
    return read


def _parse_string(text: str) -> str:
    check_string(text)
    return text


def _parse_mask(message_class: type[Message], text: str) -> Message:
    """Read a field mask whose names are in lowerCamelCase or in snake_case."""
    check_string(text)
    snake = re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", text)
    return message_class(paths=[path for path in snake.split(",") if path])


def _parse_well_known(
    message_class: type[Message], fill: Callable[[Message, str, int], None], text: str
) -> Message:
    message = message_class()
    fill(message, text, 1)
    return message
