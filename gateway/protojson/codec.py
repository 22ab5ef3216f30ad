"""JSON to messages and back, by the proto3 JSON mapping.

The converters of a message type are compiled from its descriptor, once; here is what the rest of
the gateway sees of them.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from gateway.protojson.decoding import Decoders
from gateway.protojson.encoding import Encoders
from gateway.protojson.errors import Refusal, UnwritableError
from gateway.protojson.text import parse_json

__all__ = ["JsonCodec", "given_paths", "parse_json"]

_Converter = TypeVar("_Converter")


class JsonCodec:
    """Converts between JSON and the messages of one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._encoders = Encoders(pool)
        self._decoders = Decoders(pool)
        self._writers = _ByClass(self._encoders.message_writer)
        self._fillers = _ByClass(self._decoders.message_filler)

    def prepare(self, *message_classes: type[Message]) -> None:
        """Compile converters now, and not when the first message of a type is met."""
        for message_class in message_classes:
            _ = self._writers[message_class], self._fillers[message_class]

    def merge(self, value: Any, message: Message) -> None:
        """Put a value that parse_json returned into an empty message.

        Raises:
            Problem: the value does not fit; the problem names the field.
        """
        try:
            self._fillers[type(message)](message, value, 1)
        except Refusal as refusal:
            raise refusal.problem() from refusal

    def merge_field(self, value: Any, message: Message, field: FieldDescriptor) -> None:
        """Put a value that parse_json returned, not null, into a field that is not set.

        Raises:
            Problem: the value does not fit; the problem names the place within the value.
        """
        try:
            self._decoders.field_setter(field)(message, value, 1)
        except Refusal as refusal:
            raise refusal.problem() from refusal

    def dump(self, message: Message) -> bytes:
        """Write a message as JSON on one line; fields with default values are left out.

        Raises:
            UnwritableError: it has no JSON form.
        """
        try:
            return orjson.dumps(self._writers[type(message)](message))
        except _UNWRITABLE as error:
            raise UnwritableError(f"{message.DESCRIPTOR.full_name}: {error}") from error

    def dump_field(self, message: Message, field: FieldDescriptor) -> bytes:
        """Write one field of a message as JSON, the default value if it is not set.

        Raises:
            UnwritableError: it has no JSON form.
        """
        try:
            return orjson.dumps(self._encoders.field_writer(field)(message))
        except _UNWRITABLE as error:
            raise UnwritableError(f"{field.full_name}: {error}") from error


def given_paths(value: Mapping[str, Any], message: Descriptor) -> list[str]:
    """Return the paths of the fields that a JSON object gives, in proto names, leaves only.

    A map, a repeated field and a well-known type count as one leaf, and so does a null.
    """
    paths = []
    fields = _fields(message)
    for given, item in value.items():
        name, nested = fields[given]
        if nested is None or not item:
            paths.append(name)
        else:
            paths.extend(f"{name}.{path}" for path in given_paths(item, nested))
    return paths


@lru_cache(maxsize=1024)
def _fields(message: Descriptor) -> Mapping[str, tuple[str, Descriptor | None]]:
    """Return each field by both its names: its proto name, and its message unless it is a leaf."""
    fields = {}
    for field in message.fields:
        nested = field.message_type
        is_leaf = nested is None or field.is_repeated or nested.file.package == "google.protobuf"
        fields[field.name] = (field.name, None if is_leaf else nested)
    return {**fields, **{field.json_name: fields[field.name] for field in message.fields}}


_UNWRITABLE = (RecursionError, orjson.JSONEncodeError)
"""What nests too deep, and a text of proto2 that is no UTF-8 and that protobuf gives as bytes."""


class _ByClass(dict[type[Message], _Converter], Generic[_Converter]):
    """The converter of each message class, made when it is first wanted."""

    def __init__(self, make: Callable[[Descriptor], _Converter]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, message_class: type[Message]) -> _Converter:
        converter = self[message_class] = self._make(cast("Descriptor", message_class.DESCRIPTOR))
        return converter
