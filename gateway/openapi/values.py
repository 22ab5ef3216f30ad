"""JSON Schemas of values that are the same in every document: scalars and well-known types.

They say what the gateway writes (the proto3 JSON mapping); it reads more than that.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.protojson.scalars import INTEGER_RANGES

Schema = dict[str, Any]

WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
FLOATS = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})

NULL_VALUE = "google.protobuf.NullValue"

_FLOAT_MAX = 3.4028235e38
"""As it is written: in the fewest digits that name it, which is a little more than it is."""

_WELL_KNOWN: Mapping[str, Mapping[str, Any]] = {
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
    NULL_VALUE: {"type": "null"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}
_PATTERNS = {"int64": "^-?[0-9]{1,19}$", "uint64": "^[0-9]{1,20}$"}


def well_known(full_name: str) -> Schema | None:
    """Return the schema of a message or enum that has a JSON form of its own."""
    found = _WELL_KNOWN.get(full_name)
    return None if found is None else dict(found)


def scalar(field: FieldDescriptor) -> Schema:
    """Return the schema of a field's value that is no message, no enum and no floating point."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte", "contentEncoding": "base64"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    lowest, highest = INTEGER_RANGES[field.type]
    if is_long(field):
        form = "int64" if lowest else "uint64"
        return {"type": "string", "format": form, "pattern": _PATTERNS[form]}
    form = "int32" if lowest else "uint32"
    return {"type": "integer", "format": form, "minimum": lowest, "maximum": highest}


def is_long(field: FieldDescriptor) -> bool:
    """Say whether a field's integers have 64 bits: JSON writes them as text."""
    return field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def number(field: FieldDescriptor) -> Schema:
    """Return the schema of a floating point value that is a number."""
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return {"type": "number", "format": "double"}
    return {"type": "number", "format": "float", "minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX}


def not_a_number() -> Schema:
    """Return the schema of floating point values that are no JSON numbers."""
    return {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}


def enum_number() -> Schema:
    """Return the schema of an enum's value that has no name yet."""
    lowest, highest = INTEGER_RANGES[FieldDescriptor.TYPE_INT32]
    return {"type": "integer", "format": "int32", "minimum": lowest, "maximum": highest}


def key_names(key: FieldDescriptor) -> Schema | None:
    """Return the schema of a map's keys, which JSON writes as text; None if any text will do."""
    if key.type == FieldDescriptor.TYPE_STRING:
        return None
    if key.type == FieldDescriptor.TYPE_BOOL:
        return {"enum": ["true", "false"]}
    return {"pattern": _PATTERNS["uint64" if INTEGER_RANGES[key.type][0] == 0 else "int64"]}
