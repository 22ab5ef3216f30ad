"""The rules of the proto3 JSON mapping for single values that come in.

Stricter than json_format where security asks for it: no number with a fraction or an exponent for
an integer, no base64 with stray characters, no NUL and no lone surrogate in a text.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gateway.errors import Problem, invalid_field

_INT32 = (-(2**31), 2**31 - 1)
_INT64 = (-(2**63), 2**63 - 1)
INTEGER_RANGES: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
_FLOAT_MAX = 3.4028234663852886e38
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


class Refusal(Exception):
    """A value that breaks a rule; the path to it is put together while it travels up."""

    def __init__(self, rule: str, reason: str = "INVALID_FIELD", status: int = 400) -> None:
        super().__init__(rule)
        self.rule = rule
        self.reason = reason
        self.status = status
        self._parts: list[str] = []

    def within(self, part: str) -> "Refusal":
        """Add the name or index under which the value was found."""
        self._parts.append(part)
        return self

    def problem(self, root: str = "") -> Problem:
        """Return the problem with the path to the value, from `root` on."""
        path = "".join([root, *(f".{part}" for part in reversed(self._parts))])
        path = path.removeprefix(".").replace(".[", "[")
        return invalid_field(path, self.rule, self.reason, status=self.status)


def check_scalar(value: Any, field: FieldDescriptor) -> None:
    """Check a value for a field that holds no message, or for one element of it.

    Raises:
        Refusal: it breaks a rule; with status 422 if it is an integer outside of the field's range.
    """
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        check_text(value)
    elif kind in INTEGER_RANGES:
        _check_integer(value, *INTEGER_RANGES[kind])
    elif kind == FieldDescriptor.TYPE_BOOL:
        if type(value) is not bool:
            refuse("must be true or false")
    elif kind == FieldDescriptor.TYPE_ENUM:
        _check_enum(value, cast("EnumDescriptor", field.enum_type))
    elif kind == FieldDescriptor.TYPE_BYTES:
        if (
            type(value) is not str
            or _BASE64.fullmatch(value) is None
            or len(value.rstrip("=")) % 4 == 1
        ):
            refuse("must be base64")
    else:
        check_double(value)
        if kind == FieldDescriptor.TYPE_FLOAT and _FLOAT_MAX < abs(float(value)) < math.inf:
            refuse("is out of range", "OUT_OF_RANGE", 422)


def check_text(value: Any) -> None:
    """Check a value for a string field.

    Raises:
        Refusal: it is not a string, or has what text in databases and on the wire cannot have.
    """
    if type(value) is not str:
        refuse("must be a string")
    if "\x00" in value:
        refuse("must not contain NUL")
    if not value.isascii() and _SURROGATE.search(value) is not None:
        refuse("must not contain lone surrogates")


def shown(name: str) -> str:
    """Return a client's own name for something, fit to be shown to it."""
    return name[:100].encode("utf-8", "replace").decode()


def _check_integer(value: Any, lowest: int, highest: int) -> None:
    if type(value) is str and _INTEGER.fullmatch(value) is not None:
        value = int(value)
    if type(value) is not int:
        refuse("must be an integer")
    if not lowest <= value <= highest:
        refuse(f"must be between {lowest} and {highest}", "OUT_OF_RANGE", 422)


def check_double(value: Any) -> None:
    """Check a value for a double field.

    Raises:
        Refusal: it is no number, or too large for one.
    """
    if type(value) is str and (value in _NOT_NUMBERS or _NUMBER.fullmatch(value) is not None):
        finite = value in _NOT_NUMBERS or math.isfinite(float(value))
    elif type(value) is int:
        finite = abs(value) < 2**1024
    elif type(value) is float:
        finite = math.isfinite(value)
    else:
        refuse("must be a number")
    if not finite:
        refuse("is too large for a number")


def _check_enum(value: Any, enum: EnumDescriptor) -> None:
    if type(value) is str and value in enum.values_by_name:
        return
    if type(value) is str and _INTEGER.fullmatch(value) is None:
        refuse(f"must be one of {', '.join(list(enum.values_by_name)[:20])}")
    if value is not None:
        _check_integer(value, *_INT32)
        if enum.is_closed and int(value) not in enum.values_by_number:
            refuse("is not a number of the enum")


def refuse(rule: str, reason: str = "INVALID_FIELD", status: int = 400) -> NoReturn:
    """Raise a Refusal."""
    raise Refusal(rule, reason, status)
