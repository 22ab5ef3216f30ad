"""JSON to messages and back, by the proto3 JSON mapping, for the messages of one pool."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from gateway.protojson.decoding import Decoders
from gateway.protojson.encoding import Encoders, Writer
from gateway.protojson.errors import UnwritableError

Dump = Callable[[Message], bytes]
"""Writes a message, or a field of it, as one line of JSON, or raises UnwritableError."""

Merge = Callable[[Any, Message], None]
"""Puts a value that parse_json returned into a message, or raises a Violation."""

_UNWRITABLE = (RecursionError, orjson.JSONEncodeError)
"""What nests too deep; and a proto2 string that is not UTF-8, which protobuf returns as bytes."""


class JsonCodec:
    """Compiles functions that convert between JSON and the messages of one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._encoders = Encoders(pool)
        self._decoders = Decoders(pool)

    def dumper(self, kind: Descriptor) -> Dump:
        """Return a function that writes a message; fields with default values are left out."""
        return _dumper(self._encoders.message_writer(kind), kind.full_name)

    def field_dumper(self, field: FieldDescriptor) -> Dump:
        """Return a function that writes one field, its default value if it is not set."""
        return _dumper(self._encoders.field_writer(field), field.full_name)

    def merger(self, kind: Descriptor) -> Merge:
        """Return a function that fills an empty message."""
        fill = self._decoders.message_filler(kind)
        return lambda value, message: fill(message, value, 1)

    def field_merger(self, field: FieldDescriptor) -> Merge:
        """Return a function that sets a field, which is not set yet, from a value but None.

        The path of its Violation begins within the value.
        """
        set_field = self._decoders.field_setter(field)
        return lambda value, message: set_field(message, value, 1)

    def source(self, kind: Descriptor) -> str:
        """Return the source of the functions that write and fill messages of a type."""
        writer, filler = self._encoders.message_writer(kind), self._decoders.message_filler(kind)
        return f"{_source(writer)}\n{_source(filler)}"


def _dumper(write: Writer, name: str) -> Dump:
    def dump(message: Message) -> bytes:
        try:
            return orjson.dumps(write(message))
        except _UNWRITABLE as error:
            raise UnwritableError(f"{name}: {error}") from error

    return dump


def _source(function: Callable[..., Any]) -> str:
    return inspect.getsource(function.func if isinstance(function, partial) else function)
