"""The location of a new resource: the option rest.v1.location, filled in from a response."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.protojson.scalars import INTEGER_RANGES
from gateway.routing.parameters import ParameterError, resolve
from gateway.routing.templates import Template, TemplateError, parse_template

_UNFIT = frozenset({"", ".", ".."})
"""Not segments of a path: clients remove dots, encoded or not (RFC 3986 §5.2.4, URL Standard)."""

_FILLING_TYPES = frozenset({FieldDescriptor.TYPE_STRING, *INTEGER_RANGES})


@dataclass(frozen=True, slots=True)
class _Slot:
    """A variable of the path."""

    read: Callable[[Message], object]
    segments: tuple[str, ...]

    def fill(self, message: Message) -> str | None:
        """Return the percent-encoded value, or None if it does not match the variable."""
        text = str(self.read(message))
        values = [text] if self.segments == ("*",) else text.split("/")
        if not _fit(values, self.segments):
            return None
        return "/".join(quote(value, safe="") for value in values)


@dataclass(frozen=True, slots=True)
class Location:
    """A path whose variables are fields of a message."""

    sample: str
    """The path with a made-up value for each variable."""
    _parts: tuple[str | _Slot, ...]

    def path(self, message: Message) -> str | None:
        """Return the percent-encoded path of the resource that a message describes.

        None if a field does not match its variable, in particular if it is empty.
        """
        path = ""
        for part in self._parts:
            text = part if isinstance(part, str) else part.fill(message)
            if text is None:
                return None
            path += text
        return path


def compile_location(response: Descriptor, text: str) -> Location:
    """Compile the template of a path.

    Raises:
        TemplateError: it is malformed, or has a wildcard that is not a variable.
        ParameterError: a variable is not a string or integer field of the response.
    """
    template = parse_template(text)
    parts = tuple(_parts(response, template))
    sample = "".join(part if isinstance(part, str) else _sample(part.segments) for part in parts)
    return Location(sample, parts)


def _parts(response: Descriptor, template: Template) -> Iterator[str | _Slot]:
    slots = {}
    for variable in template.variables:
        segments = template.segments[variable.start : variable.end]
        slots[variable.start] = _Slot(_reader(response, variable.field_path), segments)
    position = 0
    while position < len(template.segments):
        yield "/"
        slot = slots.get(position)
        yield slot or _literal(template, position)
        position += len(slot.segments) if slot else 1
    if template.verb:
        yield f":{quote(template.verb, safe='')}"


def _literal(template: Template, position: int) -> str:
    segment = template.segments[position]
    if segment in ("*", "**"):
        raise TemplateError(f"{template.text}: has a wildcard that no field fills")
    return quote(segment, safe="")


def _reader(response: Descriptor, path: str) -> Callable[[Message], object]:
    try:
        parameter = resolve(response, path)
    except ParameterError as error:
        raise ParameterError(f"the variable {path} of its location {error}") from error
    field = parameter.field
    if field.is_repeated or field.type not in _FILLING_TYPES:
        raise ParameterError(
            f"the variable {path} of its location is neither a string nor an integer"
        )
    read: Callable[[Message], object] = attrgetter(parameter.path)
    return read


def _fit(values: Sequence[str], segments: Sequence[str]) -> bool:
    if segments[-1] == "**":
        rest = len(values) - len(segments) + 1
        segments = [*segments[:-1], *["*"] * rest]
    return len(values) == len(segments) and all(
        value not in _UNFIT and segment in ("*", value)
        for value, segment in zip(values, segments, strict=True)
    )


def _sample(segments: Sequence[str]) -> str:
    return "/".join("~" if segment in ("*", "**") else quote(segment) for segment in segments)
