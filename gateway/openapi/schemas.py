"""JSON Schemas of message types: what the gateway writes, as components of an OpenAPI document.

One schema a message and one an enum, named by the shortest part of their full names that no other
has. Paths and operations do not live here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.descriptors import behaviors, is_map
from gateway.json_scalars import INTEGER_RANGES
from gateway.openapi.comments import Comments

Schema = dict[str, Any]

_FLOAT_MAX = 3.4028234663852886e38
NOT_A_NUMBER = "gateway.NotANumber"
"""The full name of the component for what JSON has no numbers for."""

_LONG = {
    FieldDescriptor.TYPE_INT64: ("int64", "^-?[0-9]{1,19}$"),
    FieldDescriptor.TYPE_SINT64: ("int64", "^-?[0-9]{1,19}$"),
    FieldDescriptor.TYPE_SFIXED64: ("int64", "^-?[0-9]{1,19}$"),
    FieldDescriptor.TYPE_UINT64: ("uint64", "^[0-9]{1,20}$"),
    FieldDescriptor.TYPE_FIXED64: ("uint64", "^[0-9]{1,20}$"),
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$",
    },
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class Schemas:
    """The components of one document; each is made when it is first referred to."""

    def __init__(
        self, comments: Comments, sent: Iterable[Descriptor], answered: Iterable[Descriptor]
    ) -> None:
        """Name the types of what is `sent` and of what is `answered`."""
        self._comments = comments
        self._answered = _reachable(answered)
        self._names = shortest_names({*_reachable(sent), *self._answered, NOT_A_NUMBER})
        self._components: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        """Return what was referred to, by component name, in alphabetical order."""
        return dict(sorted(self._components.items()))

    def message(self, message: Descriptor) -> Schema:
        """Return the schema of a message: a reference, unless it is a well-known type."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if message.full_name in _WRAPPERS:
            return self._single(message.fields_by_name["value"])
        return self._refer(message.full_name, lambda: self.object_of(message))

    def object_of(self, message: Descriptor, without: Iterable[str] = ()) -> Schema:
        """Return the schema of a message's JSON object, without some of its fields."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        if comment := self._comments.of(message.full_name):
            schema["description"] = comment
        schema["properties"] = {field.json_name: self.property(field) for field in fields}
        required = [field.json_name for field in fields if "REQUIRED" in behaviors(field)]
        if required and message.full_name not in self._answered:
            schema["required"] = required
        schema["additionalProperties"] = False
        return schema

    def property(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field with all that is said of it."""
        schema = self.field(field)
        if comment := self._comments.of(field.full_name):
            schema["description"] = comment
        said = behaviors(field)
        if "OUTPUT_ONLY" in said:
            schema["readOnly"] = True
        if "INPUT_ONLY" in said:
            schema["writeOnly"] = True
        if field.GetOptions().deprecated:
            schema["deprecated"] = True
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field's value."""
        if is_map(field):
            entry = cast("Descriptor", field.message_type)
            return self._map(entry.fields_by_name["key"], entry.fields_by_name["value"])
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _map(self, key: FieldDescriptor, value: FieldDescriptor) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": self._single(value)}
        if key.type == FieldDescriptor.TYPE_BOOL:
            schema["propertyNames"] = {"enum": ["true", "false"]}
        elif key.type != FieldDescriptor.TYPE_STRING:
            schema["propertyNames"] = {"pattern": "^-?[0-9]{1,20}$"}
        return schema

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._open_enum(field.enum_type)
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return self._number(field)
        return scalar(field)

    def _open_enum(self, enum: EnumDescriptor) -> Schema:
        """Return the schema of an enum's values: names, and numbers that have no name yet."""
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        named = self._refer(enum.full_name, lambda: self._enum(enum))
        if enum.is_closed:
            return named
        return {"anyOf": [named, _integer(*INTEGER_RANGES[FieldDescriptor.TYPE_INT32], "int32")]}

    def _enum(self, enum: EnumDescriptor) -> Schema:
        lines = [self._comments.of(enum.full_name), ""]
        for value in enum.values:
            comment = self._comments.of(f"{enum.full_name}.{value.name}")
            lines.append(f"- `{value.name}`: {comment}" if comment else f"- `{value.name}`")
        names = [value.name for value in enum.values]
        return {"type": "string", "description": "\n".join(lines).strip(), "enum": names}

    def _number(self, field: FieldDescriptor) -> Schema:
        number: Schema = {"type": "number", "format": "double"}
        if field.type == FieldDescriptor.TYPE_FLOAT:
            number = {
                "type": "number",
                "format": "float",
                "minimum": -_FLOAT_MAX,
                "maximum": _FLOAT_MAX,
            }
        return {"anyOf": [number, self._refer(NOT_A_NUMBER, _not_a_number)]}

    def _refer(self, full_name: str, make: Any) -> Schema:
        name = self._names[full_name]
        if name not in self._components:
            self._components[name] = {}  # A message may hold itself.
            self._components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def scalar(field: FieldDescriptor) -> Schema:
    """Return the schema of a string, bytes, bool or integer."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte", "contentEncoding": "base64"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    if field.type in _LONG:
        form, pattern = _LONG[field.type]
        return {"type": "string", "format": form, "pattern": pattern}
    lowest, highest = INTEGER_RANGES[field.type]
    return _integer(lowest, highest, "int32" if lowest else "uint32")


def shortest_names(full_names: Iterable[str]) -> dict[str, str]:
    """Return the shortest end of each dotted name that no other name has."""
    ends: dict[str, set[str]] = {}
    for full_name in full_names:
        for end in _ends(full_name):
            ends.setdefault(end, set()).add(full_name)
    return {
        full_name: next(end for end in _ends(full_name) if len(ends[end]) == 1 or end == full_name)
        for full_names in ends.values()
        for full_name in full_names
    }


def _ends(full_name: str) -> Iterator[str]:
    parts = full_name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[-length:])


def _reachable(messages: Iterable[Descriptor]) -> set[str]:
    """Return the full names of messages and of all message and enum types within them."""
    found: set[str] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name in found:
            continue
        found.add(message.full_name)
        for field in message.fields:
            if field.message_type is not None:
                waiting.append(field.message_type)
            elif field.enum_type is not None:
                found.add(field.enum_type.full_name)
    return found


def _integer(lowest: int, highest: int, form: str) -> Schema:
    return {"type": "integer", "format": form, "minimum": lowest, "maximum": highest}


def _not_a_number() -> Schema:
    return {
        "type": "string",
        "description": "What JSON has no numbers for.",
        "enum": ["NaN", "Infinity", "-Infinity"],
    }
