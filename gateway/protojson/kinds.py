"""How message types and fields are represented in JSON: as objects, or in a way of their own."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.protojson import string_values, struct_values

ANY = "google.protobuf.Any"
_SPECIAL = frozenset({ANY, *string_values.WRITERS, *struct_values.WRITERS})


def is_wrapper(kind: Descriptor) -> bool:
    """Return whether a message is represented by the value of its field `value`."""
    return bool(kind.file.name == "google/protobuf/wrappers.proto")


def is_object(kind: Descriptor) -> bool:
    """Return whether a message is represented by an object of its fields."""
    return kind.full_name not in _SPECIAL and not is_wrapper(kind)


def is_map(field: FieldDescriptor) -> bool:
    """Return whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_single_scalar(field: FieldDescriptor) -> bool:
    """Return whether a field holds one value that is not a message."""
    return field.message_type is None and not field.is_repeated
