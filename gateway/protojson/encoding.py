"""Messages to JSON values: a function for each message type, compiled from its descriptor.

The functions are Python source, because source reads a field at half the cost of a loop over
fields; it asks for each, though, and for a wide type that costs more than to go through those that
are set. What single values and well-known types become is decided elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from keyword import iskeyword
from math import copysign
from operator import itemgetter
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from gateway.protojson import string_values, struct_values
from gateway.protojson.errors import UnwritableError
from gateway.protojson.scalars import scalar_writer
from gateway.upstream.descriptors import is_map

Writer = Callable[[Any], Any]
"""Makes JSON of a message or of a field's value, and raises UnwritableError where there is none."""

ANY = "google.protobuf.Any"
_WRAPPERS_FILE = "google/protobuf/wrappers.proto"
_WELL_KNOWN: Mapping[str, Writer] = {**string_values.WRITERS, **struct_values.WRITERS}
_WIDE = 20
"""A type of so many fields is mostly empty in most messages."""

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_copy: Writer = itemgetter(slice(None))


def is_wrapper(kind: Descriptor) -> bool:
    """Say whether a message is in JSON what its field `value` is."""
    return bool(kind.file.name == _WRAPPERS_FILE)


def is_object(kind: Descriptor) -> bool:
    """Say whether a message is an object of its fields in JSON: some well-known types are not."""
    return kind.full_name != ANY and kind.full_name not in _WELL_KNOWN and not is_wrapper(kind)


class Encoders:
    """Writers for the message types of one pool, each made when it is first wanted."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._writers: dict[Descriptor, Writer] = {}
        self._field_writers: dict[FieldDescriptor, Writer] = {}

    def message_writer(self, kind: Descriptor) -> Writer:
        """Return the writer for the messages of a type."""
        writer = self._writers.get(kind)
        if writer is None:
            writer = self._writers[kind] = self._make_message_writer(kind)
        return writer

    def _make_message_writer(self, kind: Descriptor) -> Writer:
        if not is_object(kind):
            return self._well_known_writer(kind)
        if len(kind.fields) < _WIDE or kind.is_extendable:
            return self._compile(kind)
        return self._wide_writer(kind)

    def field_writer(self, field: FieldDescriptor) -> Writer:
        """Return what makes JSON of one field of a message, of its default if it is not set.

        A scalar that has presence has no default: it is null.
        """
        writer = self._field_writers.get(field)
        if writer is None:
            writer = self._field_writers[field] = self._make_field_writer(field)
        return writer

    def _make_field_writer(self, field: FieldDescriptor) -> Writer:
        name = field.name
        write = self._value_writer(field) or _write_as_it_is
        if field.is_extension:
            return lambda message: write(message.Extensions[field])
        if field.has_presence and field.message_type is None:
            return lambda message: write(getattr(message, name)) if message.HasField(name) else None
        return lambda message: write(getattr(message, name))

    def _value_writer(self, field: FieldDescriptor) -> Writer | None:
        """Return the writer for what a field has; None if that is JSON as it is."""
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
            value[f"[{field.full_name}]"] = self.field_writer(field)(message)

    def _wide_writer(self, kind: Descriptor) -> Writer:
        parts: dict[FieldDescriptor, tuple[str, Writer]] = {}

        def write(message: Any) -> dict[str, Any]:
            value = {}
            for field, item in message.ListFields():
                name, write_item = parts[field]
                value[name] = write_item(item)
            return value

        # A type that holds itself finds this one while the writers of its fields are made.
        self._writers[kind] = write
        for field in kind.fields:
            parts[field] = (field.json_name, self._value_writer(field) or _write_as_it_is)
        return write

    def _compile(self, kind: Descriptor) -> Writer:
        names: dict[str, Any] = {
            # The class's own: to look a method up in a message costs more than to call it.
            "has": message_factory.GetMessageClass(kind).HasField,
            "is_below_zero": _is_below_zero,
            "write_extensions": self._write_extensions,
        }
        define(_source(kind), f"<JSON of {kind.full_name}>", names)
        writer = cast("Writer", names["write"])
        # A type that holds itself finds this one while the writers of its fields are made.
        self._writers[kind] = writer
        for field in kind.fields:
            names[f"write_{field.number}"] = self._value_writer(field)
        return writer


def _source(kind: Descriptor) -> Iterator[str]:
    """Yield the function that makes an object of a message, its fields by their numbers."""
    yield "def write(message):"
    yield "    value = {}"
    for field in sorted(kind.fields, key=lambda field: field.number):
        yield f"    if {_condition(field)}: value[{field.json_name!r}] = {_value(field)}"
    if kind.is_extendable:
        yield "    write_extensions(message, value)"
    yield "    return value"


def _condition(field: FieldDescriptor) -> str:
    """Return the source that says whether a field is shown; of many values `item` is the JSON."""
    if field.has_presence:
        return f"has(message, {field.name!r})"
    if field.is_repeated and _is_json(field):
        return f"item := {read_source(field)}[:]"
    if field.is_repeated:
        return f"item := write_{field.number}({read_source(field)})"
    if field.type in _FLOATS:
        return f"(item := {read_source(field)}) or is_below_zero(item)"
    return f"item := {read_source(field)}"


def _value(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "item"
    item = read_source(field) if field.has_presence else "item"
    return item if _is_json(field) else f"write_{field.number}({item})"


def _is_json(field: FieldDescriptor) -> bool:
    """Say whether a value of a field is JSON as it is."""
    return field.message_type is None and scalar_writer(field) is None


def define(source: Iterable[str], title: str, names: dict[str, Any]) -> None:
    """Run source that defines a function among names; the title stands in tracebacks."""
    # It is made of field names, which protobuf has checked, and of quoted texts.
    exec(compile("\n".join(source), title, "exec"), names)  # noqa: S102


def read_source(field: FieldDescriptor) -> str:
    """Return the source that reads a field of `message`."""
    return f"getattr(message, {field.name!r})" if iskeyword(field.name) else f"message.{field.name}"


def _is_below_zero(number: float) -> bool:
    """Say whether a zero has a minus sign: it is not the default then."""
    return copysign(1.0, number) < 0.0


def _key_writer(field: FieldDescriptor) -> Callable[[Any], str]:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {False: "false", True: "true"}.__getitem__
    return str


def _write_as_it_is(value: Any) -> Any:
    return value
