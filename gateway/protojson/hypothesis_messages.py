"""Values of any message type: a strategy for Hypothesis.

JSON can represent each of them, according to google.protobuf.json_format.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from gateway.protojson.kinds import is_map

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
_DEEPEST = 3
_PATHS = st.from_regex(r"[a-z]{1,3}(_[a-z]{1,2}){0,2}(\.[a-z]{1,2})?", fullmatch=True)
_NANOS = st.sampled_from((0, 1, 999, 1_000, 120_000, 5_000_000, 999_999_999))
_URLS = st.sampled_from(("type.googleapis.com/", "made.example/any/", "/"))
_INSIDE_ANY = tuple(
    f"google.protobuf.{name}"
    for name in ("Any", "Duration", "Empty", "FieldMask", "Int64Value", "ListValue", "Value")
)


def _integers(lowest: int, highest: int) -> st.SearchStrategy[int]:
    return st.sampled_from((0, 1, lowest, highest)) | st.integers(lowest, highest)


_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.sampled_from((0.0, -0.0)) | st.floats(),
    # json_format writes the largest float, but cannot read it.
    FieldDescriptor.CPPTYPE_FLOAT: st.sampled_from((0.0, -0.0, math.nan, math.inf, -math.inf))
    | st.floats(-(2.0**127), 2.0**127, width=32),
    FieldDescriptor.CPPTYPE_INT32: _integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: _integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: _integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: _integers(0, 2**64 - 1),
}


def messages(kind: Descriptor) -> st.SearchStrategy[Message]:
    """Return the messages of a type."""
    return _messages(kind, 1)


@st.composite
def _messages(draw: st.DrawFn, kind: Descriptor, depth: int) -> Message:
    """Draw a message; `depth` is its own, 1 at the top."""
    message: Any = message_factory.GetMessageClass(kind)()
    fill = _WELL_KNOWN.get(kind.full_name)
    if fill is None:
        _fill(draw, message, depth)
    else:
        fill(draw, message)
    return cast("Message", message)


def _fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    kind = message.DESCRIPTOR
    for field in (*kind.fields, *kind.file.pool.FindAllExtensions(kind)):
        if (depth >= _DEEPEST and field.message_type is not None) or draw(st.booleans()):
            continue
        if is_map(field):
            _fill_map(draw, getattr(message, field.name), field.message_type, depth)
        elif field.is_repeated:
            items = draw(st.lists(_singles(field, depth), max_size=3))
            _held(message, field).extend(items)
        elif field.message_type is not None:
            _held(message, field).CopyFrom(draw(_singles(field, depth)))
        elif field.is_extension:
            message.Extensions[field] = draw(_singles(field, depth))
        else:
            setattr(message, field.name, draw(_singles(field, depth)))


def _held(message: Any, field: FieldDescriptor) -> Any:
    return message.Extensions[field] if field.is_extension else getattr(message, field.name)


def _fill_map(draw: st.DrawFn, items: Any, entry: Descriptor, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    drawn = draw(st.dictionaries(_singles(key, depth), _singles(value, depth), max_size=3))
    for name, item in drawn.items():
        if value.message_type is None:
            items[name] = item
        else:
            items[name].CopyFrom(item)


def _singles(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _messages(field.message_type, depth + 1)
    if field.enum_type is not None:
        known = st.sampled_from(sorted(field.enum_type.values_by_number))
        return known if field.enum_type.is_closed else known | st.integers(-(2**31), 2**31 - 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=5)
    return _SCALARS.get(field.cpp_type, TEXTS)


def _fill_any(draw: st.DrawFn, message: Any) -> None:
    pool = message.DESCRIPTOR.file.pool
    name = draw(st.none() | st.sampled_from(_INSIDE_ANY))
    if name is not None:
        inner = draw(_messages(pool.FindMessageTypeByName(name), _DEEPEST))
        message.type_url = draw(_URLS) + name
        message.value = inner.SerializeToString()


def _fill_timestamp(draw: st.DrawFn, message: Any) -> None:
    message.seconds = draw(_integers(-62_135_596_800, 253_402_300_799))
    message.nanos = draw(_NANOS | st.integers(0, 999_999_999))


def _fill_duration(draw: st.DrawFn, message: Any) -> None:
    sign = draw(st.sampled_from((-1, 1)))
    message.seconds = sign * draw(_integers(0, 315_576_000_000))
    message.nanos = sign * draw(_NANOS | st.integers(0, 999_999_999))


def _fill_mask(draw: st.DrawFn, message: Any) -> None:
    message.paths.extend(draw(st.lists(_PATHS, max_size=3)))


def _fill_json(values: st.SearchStrategy[Any]) -> Callable[[st.DrawFn, Any], None]:
    return lambda draw, message: json_format.ParseDict(draw(values), message)


_WELL_KNOWN: Mapping[str, Callable[[st.DrawFn, Any], None]] = {
    "google.protobuf.Any": _fill_any,
    "google.protobuf.Duration": _fill_duration,
    "google.protobuf.FieldMask": _fill_mask,
    "google.protobuf.ListValue": _fill_json(st.lists(JSON_VALUES, max_size=3)),
    "google.protobuf.Struct": _fill_json(st.dictionaries(TEXTS, JSON_VALUES, max_size=3)),
    "google.protobuf.Timestamp": _fill_timestamp,
    "google.protobuf.Value": _fill_json(JSON_VALUES),
}
