"""Scalars of the proto3 JSON mapping, both ways: numbers, strings, bytes, booleans and enums.

Stricter than json_format where leniency would hide a mistake: an integer has neither a fraction nor
an exponent, and base64 has no other characters.
"""

import math
import re
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.protojson.errors import Violation

_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
_UINT32 = (0, 2**32 - 1)
_UINT64 = (0, 2**64 - 1)
INTEGER_RANGES: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}
FLOATS = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})
_FOUR_BYTES = struct.Struct("<f")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity",
)
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_TO_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def scalar_reader(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Return a function that converts a parsed JSON value for a field, or for one element of it.

    It raises a Violation for any other value, with the reason OUT_OF_RANGE for a number that the
    type of the field cannot hold.
    """
    if field.type in INTEGER_RANGES:
        return partial(_read_integer, *INTEGER_RANGES[field.type])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_reader(cast("EnumDescriptor", field.enum_type))
    return _READERS[field.type]


def scalar_writer(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    """Return a function that makes JSON of a field's value; None if the value is JSON already."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_writer(cast("EnumDescriptor", field.enum_type))
    if INTEGER_RANGES.get(field.type) in (_INT64, _UINT64):
        return str
    return _WRITERS.get(field.type)


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise Violation("must be a string")
    return value


def _read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Violation("must be true or false")
    return value


def _read_integer(lowest: int, highest: int, value: Any) -> int:
    if type(value) is str and _INTEGER.fullmatch(value) is not None:
        value = int(value)
    if type(value) is not int:
        raise Violation("must be an integer")
    if not lowest <= value <= highest:
        raise Violation(f"must be between {lowest} and {highest}", "OUT_OF_RANGE")
    return value


def _read_double(value: Any) -> float:
    if type(value) is str:
        is_number = _NUMBER.fullmatch(value) is not None
    else:
        is_number = type(value) is float or type(value) is int
    if not is_number:
        raise Violation("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number) and value not in _NOT_FINITE:
        raise Violation("is too large for a number")
    return number


def _read_float(value: Any) -> float:
    number = _read_double(value)
    try:
        _FOUR_BYTES.pack(number)
    except OverflowError:
        raise Violation("is out of range", "OUT_OF_RANGE") from None
    return number


def _read_bytes(value: Any) -> bytes:
    if type(value) is not str or _BASE64.fullmatch(value) is None:
        raise Violation("must be base64")
    bare = value.rstrip("=").translate(_TO_STANDARD_ALPHABET)
    if len(bare) % 4 == 1:
        raise Violation("must be base64")
    return a2b_base64(bare + "=" * (-len(bare) % 4))


def _enum_reader(enum: EnumDescriptor) -> Callable[[Any], int]:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}
    known = frozenset(numbers.values()) if enum.is_closed else None

    def read(value: Any) -> int:
        if type(value) is str and value in numbers:
            return numbers[value]
        if value is None or (type(value) is str and _INTEGER.fullmatch(value) is None):
            raise Violation(f"must be one of {', '.join(list(numbers)[:20])}")
        number = _read_integer(*_INT32, value)
        if known is not None and number not in known:
            raise Violation("is not a number of the enum")
        return number

    return read


def _enum_writer(enum: EnumDescriptor) -> Callable[[int], str | int | None]:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _number: None
    # The first of several names for one number is the one to write.
    names = {value.number: value.name for value in reversed(enum.values)}
    return lambda number: names.get(number, number)


def _write_double(number: float) -> float | str:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _write_float(number: float) -> float | str:
    """Return the number with the fewest digits, at most nine, that is equal in 32 bits."""
    for digits in range(6, 9):
        shortest = float(f"{number:.{digits}g}")
        if _FOUR_BYTES.unpack(_FOUR_BYTES.pack(shortest))[0] == number:
            return _write_double(shortest)
    return _write_double(float(f"{number:.9g}"))


def _write_bytes(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


_READERS: Mapping[int, Callable[[Any], Any]] = {
    FieldDescriptor.TYPE_STRING: _read_string,
    FieldDescriptor.TYPE_BYTES: _read_bytes,
    FieldDescriptor.TYPE_BOOL: _read_boolean,
    FieldDescriptor.TYPE_FLOAT: _read_float,
    FieldDescriptor.TYPE_DOUBLE: _read_double,
}
_WRITERS: Mapping[int, Callable[[Any], Any]] = {
    FieldDescriptor.TYPE_BYTES: _write_bytes,
    FieldDescriptor.TYPE_FLOAT: _write_float,
    FieldDescriptor.TYPE_DOUBLE: _write_double,
}
