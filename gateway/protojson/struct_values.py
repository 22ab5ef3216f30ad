"""Struct, Value and ListValue, both ways: messages that stand for any JSON."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from google.protobuf.struct_pb2 import Value

from gateway.protojson.errors import MAX_DEPTH, UnwritableError, Violation, excerpt, too_deep

# Found once, in the class: a look-up in each message would cost more than the call.
_which = Value.WhichOneof
_set_in_parent = Value.SetInParent


def _write_struct(message: Any) -> dict[str, Any]:
    """Make JSON of a Struct."""
    value = {}
    fields = message.fields
    for name in fields:
        item = fields[name]
        value[name] = item.string_value or _write_other(item)
    return value


def _write_list(message: Any) -> list[Any]:
    """Make JSON of a ListValue."""
    return [item.string_value or _write_other(item) for item in message.values]


def _write_value(message: Any) -> Any:
    """Make JSON of a Value; null if none of its kinds is set."""
    return message.string_value or _write_other(message)


def _write_other(message: Any) -> Any:
    """Make JSON of a Value that is not a string, or an empty one."""
    number = message.number_value
    if number:
        if not isfinite(number):
            raise UnwritableError(f"a Value has the number {number}")
        return number
    kind = _which(message, "kind")
    if kind == "struct_value":
        return _write_struct(message.struct_value)
    if kind == "list_value":
        return _write_list(message.list_value)
    return None if kind is None or kind == "null_value" else getattr(message, kind)


def _fill_struct(message: Any, value: Any, depth: int) -> None:
    """Fill a Struct from JSON; `depth` is its own, 1 at the top."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is not dict:
        raise Violation("must be an object")
    _set_in_parent(message)
    fields = message.fields
    name = ""
    try:
        for name, item in value.items():
            _fill_value(fields[name], item, depth + 2)
    except Violation as violation:
        raise violation.within(excerpt(name)) from None


def _fill_list(message: Any, value: Any, depth: int) -> None:
    """Fill a ListValue from JSON."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is not list:
        raise Violation("must be an array")
    _set_in_parent(message)
    values = message.values
    try:
        for item in value:
            _fill_value(values.add(), item, depth + 1)
    except Violation as violation:
        raise violation.within(f"[{len(values) - 1}]") from None


def _fill_value(message: Any, value: Any, depth: int) -> None:
    """Fill a Value from JSON."""
    if depth > MAX_DEPTH:
        raise too_deep()
    kind = type(value)
    if kind is str:
        message.string_value = value
    elif kind is float or kind is int:
        try:
            message.number_value = value
        except OverflowError:
            raise Violation("is too large for a number") from None
    elif kind is bool:
        message.bool_value = value
    elif kind is dict:
        _fill_struct(message.struct_value, value, depth + 1)
    elif kind is list:
        _fill_list(message.list_value, value, depth + 1)
    else:
        message.null_value = 0


WRITERS: Mapping[str, Callable[[Any], Any]] = {
    "google.protobuf.ListValue": _write_list,
    "google.protobuf.Struct": _write_struct,
    "google.protobuf.Value": _write_value,
}
"""By the full names of the types; each raises UnwritableError for what JSON has no value for."""
FILLERS: Mapping[str, Callable[[Any, Any, int], None]] = {
    "google.protobuf.ListValue": _fill_list,
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.Value": _fill_value,
}
"""By the full names of the types; each raises a Violation for a value that is not valid."""
