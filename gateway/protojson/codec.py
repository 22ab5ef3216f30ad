"""JSON to messages and back, by the proto3 JSON mapping, for the messages of one pool."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from gateway.protojson.decoding import Decoders
from gateway.protojson.encoding import Encoders
from gateway.protojson.errors import UnwritableError

_Converter = TypeVar("_Converter", bound=Callable[..., Any])

_UNWRITABLE = (RecursionError, orjson.JSONEncodeError)
"""What nests too deep; and a proto2 string that is not UTF-8, which protobuf returns as bytes."""


class JsonCodec:
    """Converts between JSON and the messages of one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._encoders = Encoders(pool)
        self._decoders = Decoders(pool)
        self._writers = _ByClass(self._encoders.message_writer)
        self._fillers = _ByClass(self._decoders.message_filler)

    def prepare(self, *message_classes: type[Message]) -> None:
        """Compile the converters of message types now, instead of at their first message."""
        for message_class in message_classes:
            _ = self._writers[message_class], self._fillers[message_class]

    def source(self, message_class: type[Message]) -> str:
        """Return the source of the functions that write and fill messages of a type."""
        writer, filler = self._writers[message_class], self._fillers[message_class]
        return f"{_source(writer)}\n{_source(filler)}"

    def merge(self, value: Any, message: Message) -> None:
        """Fill an empty message from a value that parse_json returned.

        Raises:
            Violation: the value does not fit.
        """
        self._fillers[type(message)](message, value, 1)

    def merge_field(self, value: Any, message: Message, field: FieldDescriptor) -> None:
        """Set a field that is not set yet from a value, not None, that parse_json returned.

        Raises:
            Violation: the value does not fit; its path begins within the value.
        """
        self._decoders.field_setter(field)(message, value, 1)

    def dump(self, message: Message) -> bytes:
        """Write a message as one line of JSON; fields with default values are left out.

        Raises:
            UnwritableError: JSON cannot represent it.
        """
        try:
            return orjson.dumps(self._writers[type(message)](message))
        except _UNWRITABLE as error:
            raise UnwritableError(f"{message.DESCRIPTOR.full_name}: {error}") from error

    def dump_field(self, message: Message, field: FieldDescriptor) -> bytes:
        """Write one field of a message as JSON, its default value if it is not set.

        Raises:
            UnwritableError: JSON cannot represent it.
        """
        try:
            return orjson.dumps(self._encoders.field_writer(field)(message))
        except _UNWRITABLE as error:
            raise UnwritableError(f"{field.full_name}: {error}") from error


class _ByClass(dict[type[Message], _Converter], Generic[_Converter]):
    """The converter of each message class, compiled at its first look-up."""

    def __init__(self, make: Callable[[Descriptor], _Converter]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, message_class: type[Message]) -> _Converter:
        converter = self[message_class] = self._make(cast("Descriptor", message_class.DESCRIPTOR))
        return converter


def _source(function: Callable[..., Any]) -> str:
    return inspect.getsource(function.func if isinstance(function, partial) else function)
