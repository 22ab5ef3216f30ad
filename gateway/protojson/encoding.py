"""Messages as JSON values: one function for each message type, compiled from its descriptor.

Generated source reads a field at half the cost of a loop over the fields. It tests every field,
though, and for a wide type that costs more than a loop over the fields that are set.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import copysign
from operator import itemgetter
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from gateway.protojson import string_values, struct_values
from gateway.protojson.errors import UnwritableError
from gateway.protojson.kinds import ANY, is_map, is_object, is_wrapper
from gateway.protojson.scalars import FLOATS, scalar_writer
from gateway.protojson.source import define, field_access

Writer = Callable[[Any], Any]
"""Makes JSON of a message or of a field's value, or raises UnwritableError."""

_WELL_KNOWN: Mapping[str, Writer] = {**string_values.WRITERS, **struct_values.WRITERS}
_WIDE = 20
"""With so many fields, most are not set in most messages."""

_copy: Writer = itemgetter(slice(None))


class Encoders:
    """Writers for the message types of one pool, each compiled when it is first needed."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._writers: dict[Descriptor, Writer] = {}
        self._extension_writer = cache(self.field_writer)

    def message_writer(self, kind: Descriptor) -> Writer:
        """Return the writer of a message type."""
        if kind not in self._writers:
            if not is_object(kind):
                writer = self._well_known_writer(kind)
            elif len(kind.fields) < _WIDE or kind.is_extendable:
                writer = self._compile(kind)
            else:
                writer = self._wide_writer(kind)
            self._writers[kind] = writer
        return self._writers[kind]

    def field_writer(self, field: FieldDescriptor) -> Writer:
        """Return a function that makes JSON of one field of a message.

        A field that is not set has its default value, or is null if it is a scalar with presence.
        """
        name = field.name
        write = self._value_writer(field) or _write_as_it_is
        if field.is_extension:
            return lambda message: write(message.Extensions[field])
        if field.has_presence and field.message_type is None:
            return lambda message: write(getattr(message, name)) if message.HasField(name) else None
        return lambda message: write(getattr(message, name))

    def _value_writer(self, field: FieldDescriptor) -> Writer | None:
        """Return the writer of a field's value; None if the value is JSON already."""
        if is_map(field):
            return self._map_writer(cast("Descriptor", field.message_type))
        single = self._single_writer(field)
        if not field.is_repeated:
            return single
        if single is None:
            return _copy
        return lambda items: [single(item) for item in items]

    def _single_writer(self, field: FieldDescriptor) -> Writer | None:
        kind = field.message_type
        return scalar_writer(field) if kind is None else self.message_writer(kind)

    def _map_writer(self, entry: Descriptor) -> Writer:
        write_key = _key_writer(entry.fields_by_name["key"])
        write = self._single_writer(entry.fields_by_name["value"]) or _write_as_it_is
        return lambda items: {write_key(key): write(items[key]) for key in items}

    def _well_known_writer(self, kind: Descriptor) -> Writer:
        if kind.full_name == ANY:
            return self._write_any
        if is_wrapper(kind):
            write = self._single_writer(kind.fields_by_name["value"]) or _write_as_it_is
            return lambda message: write(message.value)
        return _WELL_KNOWN[kind.full_name]

    def _write_any(self, message: Any) -> dict[str, Any]:
        if not message.type_url and not message.value:
            return {}
        name = message.type_url.rpartition("/")[2]
        try:
            kind = self._pool.FindMessageTypeByName(name)
            inner = message_factory.GetMessageClass(kind).FromString(message.value)
        except (KeyError, DecodeError) as error:
            raise UnwritableError(f"an Any has no readable {name}") from error
        value = self.message_writer(kind)(inner)
        return {"@type": message.type_url, **(value if is_object(kind) else {"value": value})}

    def _write_extensions(self, message: Any, value: dict[str, Any]) -> None:
        for field in message.Extensions:
            value[f"[{field.full_name}]"] = self._extension_writer(field)(message)

    def _wide_writer(self, kind: Descriptor) -> Writer:
        parts: dict[FieldDescriptor, tuple[str, Writer]] = {}

        def write(message: Any) -> dict[str, Any]:
            value = {}
            for field, item in message.ListFields():
                name, write_item = parts[field]
                value[name] = write_item(item)
            return value

        # Registered first, for a type that contains itself.
        self._writers[kind] = write
        for field in kind.fields:
            parts[field] = (field.json_name, self._value_writer(field) or _write_as_it_is)
        return write

    def _compile(self, kind: Descriptor) -> Writer:
        names: dict[str, Any] = {
            # Found once, in the class: a look-up in each message would cost more than the call.
            "has": message_factory.GetMessageClass(kind).HasField,
            "is_below_zero": _is_below_zero,
            "write_extensions": self._write_extensions,
        }
        define(_source(kind), f"<{kind.full_name} to JSON>", names)
        writer = cast("Writer", names["write"])
        # Registered first, for a type that contains itself.
        self._writers[kind] = writer
        for field in kind.fields:
            names[f"write_{field.number}"] = self._value_writer(field)
        return writer


def _source(kind: Descriptor) -> Iterator[str]:
    """Yield the function that makes an object of a message, its fields ordered by number."""
    yield "def write(message):"
    yield "    value = {}"
    for field in sorted(kind.fields, key=lambda field: field.number):
        yield f"    if {_condition(field)}: value[{field.json_name!r}] = {_value(field)}"
    if kind.is_extendable:
        yield "    write_extensions(message, value)"
    yield "    return value"


def _condition(field: FieldDescriptor) -> str:
    """Return the condition under which a field is written; it binds `item` for `_value`."""
    if field.has_presence:
        return f"has(message, {field.name!r})"
    if field.is_repeated and _is_json(field):
        return f"item := {field_access(field)}[:]"
    if field.is_repeated:
        return f"item := write_{field.number}({field_access(field)})"
    if field.type in FLOATS:
        return f"(item := {field_access(field)}) or is_below_zero(item)"
    return f"item := {field_access(field)}"


def _value(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "item"
    item = field_access(field) if field.has_presence else "item"
    return item if _is_json(field) else f"write_{field.number}({item})"


def _is_json(field: FieldDescriptor) -> bool:
    """Return whether a value of a field is JSON already."""
    return field.message_type is None and scalar_writer(field) is None


def _is_below_zero(number: float) -> bool:
    """Return whether a zero has a minus sign, and so is not the default."""
    return copysign(1.0, number) < 0.0


def _key_writer(field: FieldDescriptor) -> Callable[[Any], str]:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {False: "false", True: "true"}.__getitem__
    return str


def _write_as_it_is(value: Any) -> Any:
    return value
