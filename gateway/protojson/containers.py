"""JSON arrays and objects as repeated fields and maps of any elements."""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.protojson.errors import MAX_DEPTH, Violation, excerpt, too_deep
from gateway.protojson.scalars import scalar_reader

Reader = Callable[[Any], Any]
Filler = Callable[[Any, Any, int], None]
"""Fills an empty message or container from a JSON value, or raises a Violation.

The number is the depth of the message, or of each message in the container: 1 at the top.
"""


def scalar_list_filler(field: FieldDescriptor) -> Filler:
    """Return the filler for a repeated field of scalars."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _fill_strings
    read = scalar_reader(field)

    def fill(items: Any, value: Any, _depth: int) -> None:
        values: list[Any] = []
        for item in expect_array(value):
            try:
                values.append(read(item))
            except Violation as violation:
                raise violation.within(f"[{len(values)}]") from None
        items.extend(values)

    return fill


def message_list_filler(fill_message: Filler) -> Filler:
    """Return the filler for a repeated field of messages."""

    def fill(items: Any, value: Any, depth: int) -> None:
        for item in expect_array(value):
            try:
                fill_message(items.add(), item, depth)
            except Violation as violation:
                raise violation.within(f"[{len(items) - 1}]") from None

    return fill


def scalar_map_filler(key: FieldDescriptor, read: Reader) -> Filler:
    """Return the filler for a map to scalars."""
    read_key = _key_reader(key)

    def fill(items: Any, value: Any, depth: int) -> None:
        for name, item in expect_object(value).items():
            try:
                items[_unused(items, read_key(name), depth)] = read(item)
            except Violation as violation:
                raise violation.within(excerpt(name)) from None

    return fill


def message_map_filler(key: FieldDescriptor, fill_message: Filler) -> Filler:
    """Return the filler for a map to messages."""
    read_key = _key_reader(key)

    def fill(items: Any, value: Any, depth: int) -> None:
        for name, item in expect_object(value).items():
            try:
                fill_message(items[_unused(items, read_key(name), depth)], item, depth + 1)
            except Violation as violation:
                raise violation.within(excerpt(name)) from None

    return fill


def expect_array(value: Any) -> list[Any]:
    """Return the value if it is an array, or raise a Violation."""
    if type(value) is not list:
        raise Violation("must be an array")
    return value


def expect_object(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, or raise a Violation."""
    if type(value) is not dict:
        raise Violation("must be an object")
    return value


def _fill_strings(items: Any, value: Any, _depth: int) -> None:
    try:
        items.extend(expect_array(value))
    except TypeError:
        index = next(index for index, item in enumerate(value) if type(item) is not str)
        raise Violation("must be a string").within(f"[{index}]") from None


def _unused(items: Any, key: Any, depth: int) -> Any:
    """Return the key of a new entry; on the wire each entry is a message, here at `depth`."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if key in items:
        raise Violation("is the same key as another")
    return key


def _key_reader(field: FieldDescriptor) -> Reader:
    return _read_boolean if field.type == FieldDescriptor.TYPE_BOOL else scalar_reader(field)


def _read_boolean(name: str) -> bool:
    if name not in ("true", "false"):
        raise Violation("must have true or false for a key")
    return name == "true"
