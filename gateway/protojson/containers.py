"""JSON arrays and objects to repeated fields and maps; what is in them is read elsewhere."""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.protojson.errors import MAX_DEPTH, Refusal, refuse, refuse_depth, shown
from gateway.protojson.scalars import scalar_reader

Reader = Callable[[Any], Any]
Filler = Callable[[Any, Any, int], None]
"""Fills an empty message or container from a JSON value, or raises a Refusal.

The number is how many messages the message, or each one in the container, lies in, and itself.
"""


def scalar_list_filler(field: FieldDescriptor) -> Filler:
    """Return the filler for a repeated field of scalars."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _fill_texts
    read = scalar_reader(field)

    def fill(items: Any, value: Any, _depth: int) -> None:
        values: list[Any] = []
        for item in expect_array(value):
            try:
                values.append(read(item))
            except Refusal as refusal:
                raise refusal.within(f"[{len(values)}]") from None
        items.extend(values)

    return fill


def message_list_filler(fill_message: Filler) -> Filler:
    """Return the filler for a repeated field of messages."""

    def fill(items: Any, value: Any, depth: int) -> None:
        for item in expect_array(value):
            try:
                fill_message(items.add(), item, depth)
            except Refusal as refusal:
                raise refusal.within(f"[{len(items) - 1}]") from None

    return fill


def scalar_map_filler(key: FieldDescriptor, read: Reader) -> Filler:
    """Return the filler for a map to scalars."""
    read_key = _key_reader(key)

    def fill(items: Any, value: Any, depth: int) -> None:
        for name, item in expect_object(value).items():
            try:
                items[_unused(items, read_key(name), depth)] = read(item)
            except Refusal as refusal:
                raise refusal.within(shown(name)) from None

    return fill


def message_map_filler(key: FieldDescriptor, fill_message: Filler) -> Filler:
    """Return the filler for a map to messages."""
    read_key = _key_reader(key)

    def fill(items: Any, value: Any, depth: int) -> None:
        for name, item in expect_object(value).items():
            try:
                fill_message(items[_unused(items, read_key(name), depth)], item, depth + 1)
            except Refusal as refusal:
                raise refusal.within(shown(name)) from None

    return fill


def expect_array(value: Any) -> list[Any]:
    """Take an array.

    Raises:
        Refusal: it is none.
    """
    if type(value) is not list:
        refuse("must be an array")
    return value


def expect_object(value: Any) -> dict[str, Any]:
    """Take an object.

    Raises:
        Refusal: it is none.
    """
    if type(value) is not dict:
        refuse("must be an object")
    return value


def _fill_texts(items: Any, value: Any, _depth: int) -> None:
    try:
        items.extend(expect_array(value))
    except TypeError:
        index = next(index for index, item in enumerate(value) if type(item) is not str)
        raise Refusal("must be a string").within(f"[{index}]") from None


def _unused(items: Any, key: Any, depth: int) -> Any:
    """Take a key for a new entry, which is a message of its own at a depth."""
    if depth > MAX_DEPTH:
        refuse_depth()
    if key in items:
        refuse("is the same key as another")
    return key


def _key_reader(field: FieldDescriptor) -> Reader:
    return _read_truth if field.type == FieldDescriptor.TYPE_BOOL else scalar_reader(field)


def _read_truth(name: str) -> bool:
    if name not in ("true", "false"):
        refuse("must have true or false for a key")
    return name == "true"
