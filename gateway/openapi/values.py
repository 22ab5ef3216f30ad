"""JSON Schemas of scalars and well-known types.

They describe what the gateway writes (the proto3 JSON mapping); it reads more than that.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.protojson.scalars import INTEGER_RANGES

Schema = dict[str, Any]

NULL_VALUE = "google.protobuf.NullValue"

_FLOAT_MAX = 3.4028235e38
"""The largest float in its shortest decimal representation, which is slightly more."""

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
    """Return the schema of a message or enum with a JSON representation of its own, or None."""
    found = _WELL_KNOWN.get(full_name)
    return None if found is None else dict(found)


def scalar(field: FieldDescriptor) -> Schema:
    """Return the schema of a scalar that is neither an enum nor a floating-point number."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte", "contentEncoding": "base64"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    lowest, highest = INTEGER_RANGES[field.type]
    if is_long(field):
        name = "int64" if lowest else "uint64"
        return {"type": "string", "format": name, "pattern": _PATTERNS[name]}
    name = "int32" if lowest else "uint32"
    return {"type": "integer", "format": name, "minimum": lowest, "maximum": highest}


def is_long(field: FieldDescriptor) -> bool:
    """Return whether a field has integers of 64 bits, which JSON writes as strings."""
    return field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def number(field: FieldDescriptor) -> Schema:
    """Return the schema of a finite floating-point number."""
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return {"type": "number", "format": "double"}
    return {"type": "number", "format": "float", "minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX}


def not_a_number() -> Schema:
    """Return the schema of floating-point values that JSON has no numbers for."""
    return {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}


def enum_number() -> Schema:
    """Return the schema of an enum value without a name."""
    lowest, highest = INTEGER_RANGES[FieldDescriptor.TYPE_INT32]
    return {"type": "integer", "format": "int32", "minimum": lowest, "maximum": highest}


def key_names(key: FieldDescriptor) -> Schema | None:
    """Return the schema of a map's keys, which are strings in JSON; None if any string is valid."""
    if key.type == FieldDescriptor.TYPE_STRING:
        return None
    if key.type == FieldDescriptor.TYPE_BOOL:
        return {"enum": ["true", "false"]}
    return {"pattern": _PATTERNS["uint64" if INTEGER_RANGES[key.type][0] == 0 else "int64"]}
