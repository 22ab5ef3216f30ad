"""Fields of messages, found by either of their names, and their google.api.field_behavior."""

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor


def find_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    """Find a field by its proto name or by its JSON name."""
    named = message.fields_by_name.get(name)
    if named is not None:
        return named
    return next((field for field in message.fields if field.json_name == name), None)


def find_string(message: Descriptor, name: str) -> FieldDescriptor | None:
    """Find a field by its proto name, if it holds a single string."""
    field = message.fields_by_name.get(name)
    if field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
        return None
    return field


def behaviors(field: FieldDescriptor) -> frozenset[str]:
    """Return the names of a field's google.api.field_behavior options (AIP-203)."""
    options: Any = field.GetOptions()  # Google's generated modules have no types.
    numbers = options.Extensions[field_behavior_pb2.field_behavior]
    return frozenset(field_behavior_pb2.FieldBehavior.Name(number) for number in numbers)
