"""JSON Schemas of the message and enum types of a document: its components.

There is one schema for each message, which describes what the gateway writes. Fields with default
values are left out (the proto3 JSON mapping), so that nothing is required in a response; only the
schemas of messages that occur in no response have `required`.
"""

from collections.abc import Callable, Collection, Iterable
from itertools import combinations
from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.openapi import rules
from gateway.openapi.comments import Comments
from gateway.openapi.values import (
    Schema,
    enum_number,
    key_names,
    not_a_number,
    number,
    scalar,
    well_known,
)
from gateway.protojson.kinds import is_map, is_wrapper
from gateway.protojson.scalars import FLOATS
from gateway.routing.fields import behaviors
from gateway.routing.names import shortest_names

_OWN = ("gateway.Failure", "gateway.NotANumber", "gateway.Problem")
"""The gateway's own components, whose names must not collide with those of types."""


class Schemas:
    """The components of one document; each is made at the first reference to it."""

    def __init__(
        self, comments: Comments, requests: Iterable[Descriptor], responses: Iterable[Descriptor]
    ) -> None:
        """Name all types that occur in requests and responses."""
        self.comments = comments
        self._in_responses = _reachable(responses)
        self._names = shortest_names({*_reachable(requests), *self._in_responses, *_OWN})
        self._components: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        """Return the schemas that were referred to by name, in alphabetical order."""
        return dict(sorted(self._components.items()))

    def message(self, message: Descriptor) -> Schema:
        """Return the schema of a message: a reference, unless JSON represents it in its own way."""
        if is_wrapper(message):
            return self._single(message.fields_by_name["value"])
        known = well_known(message.full_name)
        if known is not None:
            return known
        return self.refer(message.full_name, lambda: self.object_of(message))

    def object_of(self, message: Descriptor, without: Collection[str] = ()) -> Schema:
        """Return the schema of a message as an object, without the fields named in `without`."""
        fields = [field for field in _all_fields(message) if field.name not in without]
        schema: Schema = {"type": "object"}
        if comment := self.comments.of(message.full_name):
            schema["description"] = comment
        schema["properties"] = {_json_name(field): self._property(field) for field in fields}
        required = [_json_name(field) for field in fields if self._is_required(field)]
        if required:
            schema["required"] = required
        excluded = _exclusive_pairs(fields)
        if excluded:
            schema["not"] = {"anyOf": [{"required": pair} for pair in excluded]}
        schema["additionalProperties"] = False
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field's value."""
        if is_map(field):
            return self._map(field) | rules.of_whole(field)
        single = self._single(field) | rules.of_values(field)
        if field.is_repeated:
            return {"type": "array", "items": single} | rules.of_whole(field)
        return single

    def _property(self, field: FieldDescriptor) -> Schema:
        schema = self.field(field)
        named = behaviors(field)
        if description := self._description(field):
            schema["description"] = description
        if "OUTPUT_ONLY" in named:
            schema["readOnly"] = True
        if "INPUT_ONLY" in named:
            schema["writeOnly"] = True
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                schema["format"] = "password"
        if field.GetOptions().deprecated:
            schema["deprecated"] = True
        return schema

    def _description(self, field: FieldDescriptor) -> str:
        """Return the comment of a field, and what a shared schema cannot express."""
        parts = [self.comments.of(field.full_name)]
        if "REQUIRED" in behaviors(field) and not self._is_required(field):
            parts.append("Required in requests with the whole message.")
        if "IMMUTABLE" in behaviors(field):
            parts.append("No update changes it.")
        parts.append(exclusion(field))
        return " ".join(filter(None, parts))

    def _is_required(self, field: FieldDescriptor) -> bool:
        """Return whether every object has the field, which is never certain in a response."""
        owner = cast("Descriptor", field.containing_type)
        return "REQUIRED" in behaviors(field) and owner.full_name not in self._in_responses

    def _map(self, field: FieldDescriptor) -> Schema:
        entry = cast("Descriptor", field.message_type)
        values = self._single(entry.fields_by_name["value"]) | rules.of_values(field)
        schema: Schema = {"type": "object", "additionalProperties": values}
        names = key_names(entry.fields_by_name["key"])
        return schema if names is None else {**schema, "propertyNames": names}

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum_value(field.enum_type)
        if field.type in FLOATS:
            return {"anyOf": [number(field), self.refer("gateway.NotANumber", not_a_number)]}
        return scalar(field)

    def _enum_value(self, enum: EnumDescriptor) -> Schema:
        """Return the schema of an enum's values: a name, or a number without one."""
        known = well_known(enum.full_name)
        if known is not None:
            return known
        named = self.refer(enum.full_name, lambda: self._enum(enum))
        return named if enum.is_closed else {"anyOf": [named, enum_number()]}

    def _enum(self, enum: EnumDescriptor) -> Schema:
        lines = [self.comments.of(enum.full_name), ""]
        for value in enum.values:
            comment = self.comments.of(f"{enum.full_name}.{value.name}")
            lines.append(f"- `{value.name}`: {comment}" if comment else f"- `{value.name}`")
        description = "\n".join(lines).strip()
        names = [value.name for value in enum.values]
        return {"type": "string", "description": description, "enum": names}

    def refer(self, full_name: str, make: Callable[[], Schema]) -> Schema:
        """Return a reference to a schema, which is made at the first one."""
        name = self._names[full_name]
        if name not in self._components:
            self._components[name] = {}  # A message may contain itself.
            self._components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def exclusion(field: FieldDescriptor) -> str:
    """Return a sentence that names the other members of a field's oneof, if there are any."""
    others = ", ".join(f"`{other.json_name}`" for other in _rivals(field))
    return f"Excludes {others}." if others else ""


def _reachable(messages: Iterable[Descriptor]) -> set[str]:
    """Return the full names of messages, and of all message and enum types in them."""
    found: set[str] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name in found:
            continue
        found.add(message.full_name)
        for field in _all_fields(message):
            if field.message_type is not None:
                waiting.append(field.message_type)
            elif field.enum_type is not None:
                found.add(field.enum_type.full_name)
    return found


def _all_fields(message: Descriptor) -> list[FieldDescriptor]:
    """Return the fields of a message, its extensions last (proto2 and editions)."""
    extensions = message.file.pool.FindAllExtensions(message)
    return [*message.fields, *sorted(extensions, key=lambda field: field.number)]


def _json_name(field: FieldDescriptor) -> str:
    return f"[{field.full_name}]" if field.is_extension else field.json_name


def _rivals(field: FieldDescriptor) -> list[FieldDescriptor]:
    oneof = field.containing_oneof
    return [] if oneof is None else [other for other in oneof.fields if other is not field]


def _exclusive_pairs(fields: Collection[FieldDescriptor]) -> list[list[str]]:
    """Return the JSON names of each pair of fields that exclude each other."""
    return [
        [one.json_name, other.json_name]
        for one, other in combinations(fields, 2)
        if one in _rivals(other)
    ]
