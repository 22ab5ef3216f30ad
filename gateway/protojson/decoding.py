"""JSON values as messages: one function for each message type, compiled from its descriptor.

Rules are checked while fields are set, in one pass; after a violation the message is of no use.
Stricter than json_format where leniency would hide a mistake: no field under both of its names, no
key of a map in two spellings, and no nesting that a service could not read from the wire.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from keyword import iskeyword
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import EncodeError, Message

from gateway.protojson import string_values, struct_values
from gateway.protojson.containers import (
    Filler,
    Reader,
    expect_object,
    message_list_filler,
    message_map_filler,
    scalar_list_filler,
    scalar_map_filler,
)
from gateway.protojson.errors import MAX_DEPTH, Violation, excerpt, too_deep
from gateway.protojson.kinds import ANY, is_map, is_object, is_single_scalar, is_wrapper
from gateway.protojson.scalars import INTEGER_RANGES, scalar_reader
from gateway.protojson.source import define, field_access

Setter = Callable[[Any, Any, int], None]
"""Sets a field of a message, whose depth is the number, from a JSON value that is not null."""

_WELL_KNOWN: Mapping[str, Filler] = {**string_values.FILLERS, **struct_values.FILLERS}
_NULL_TYPES = ("google.protobuf.Value", "google.protobuf.NullValue")
# Integers of 64 bits are strings, and any number of 18 digits is in their range.
_SHORT_NUMBER = "type(item) is str and len(item) < 19 and item.isascii() and item.isdecimal()"
_INLINE: Mapping[int, str] = {
    **{
        kind: f"item if type(item) is int and {lowest} <= item <= {highest}"
        if highest < 2**32
        else f"int(item) if {_SHORT_NUMBER}"
        for kind, (lowest, highest) in INTEGER_RANGES.items()
    },
    FieldDescriptor.TYPE_BOOL: "item if type(item) is bool",
    FieldDescriptor.TYPE_DOUBLE: "item if type(item) is float",
    FieldDescriptor.TYPE_STRING: "item if type(item) is str",
}
"""The beginning of a conditional expression that converts the usual JSON value of a field type."""

_ABSENT = object()


class Decoders:
    """Fillers for the message types of one pool, each compiled when it is first needed."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._fillers: dict[Descriptor, Filler] = {}
        self._extension_setter = cache(self.field_setter)

    def message_filler(self, kind: Descriptor) -> Filler:
        """Return the filler of a message type."""
        if kind not in self._fillers:
            make = self._compile if is_object(kind) else self._well_known_filler
            self._fillers[kind] = make(kind)
        return self._fillers[kind]

    def field_setter(self, field: FieldDescriptor) -> Setter:
        """Return a function that sets one field of a message."""
        if not is_single_scalar(field):
            fill = self._field_filler(field)
            return lambda message, value, depth: fill(_held(message, field), value, depth + 1)
        read = _reader(field)

        def set_scalar(message: Any, value: Any, _depth: int) -> None:
            if field.is_extension:
                message.Extensions[field] = read(value)
            else:
                setattr(message, field.name, read(value))

        return set_scalar

    def _field_filler(self, field: FieldDescriptor) -> Filler:
        """Return the filler for the value of a field that is not a single scalar."""
        kind = field.message_type
        if is_map(field):
            return self._map_filler(cast("Descriptor", kind))
        if kind is not None:
            fill = self.message_filler(kind)
            return message_list_filler(fill) if field.is_repeated else fill
        return scalar_list_filler(field)

    def _map_filler(self, entry: Descriptor) -> Filler:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        if value.message_type is None:
            return scalar_map_filler(key, scalar_reader(value))
        return message_map_filler(key, self.message_filler(value.message_type))

    def _well_known_filler(self, kind: Descriptor) -> Filler:
        if kind.full_name == ANY:
            return self._fill_any
        if is_wrapper(kind):
            return partial(_fill_wrapper, scalar_reader(kind.fields_by_name["value"]))
        return _WELL_KNOWN[kind.full_name]

    def _fill_any(self, message: Any, value: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise too_deep()
        message.SetInParent()
        if not expect_object(value):
            return
        url = value.get("@type")
        if type(url) is not str:
            raise Violation("must name a type").within("@type")
        try:
            kind = self._pool.FindMessageTypeByName(url.rpartition("/")[2])
        except KeyError:
            raise Violation("is not a known type").within("@type") from None
        rest = {name: item for name, item in value.items() if name != "@type"}
        inner = message_factory.GetMessageClass(kind)()
        if not is_object(kind) and rest.keys() != {"value"}:
            raise Violation("must have a value and nothing else beside its @type")
        content = rest if is_object(kind) else rest["value"]
        self.message_filler(kind)(inner, content, depth + 1)
        message.type_url = url
        message.value = _serialize(inner)

    def _compile(self, kind: Descriptor) -> Filler:
        message_class = message_factory.GetMessageClass(kind)
        proto_names = {field.json_name: field.name for field in kind.fields}
        names: dict[str, Any] = {
            # Found once, in the class: a look-up in each message would cost more than the call.
            "set_in_parent": message_class.SetInParent,
            "which": message_class.WhichOneof,
            "json_names": frozenset(proto_names),
            "proto_names": proto_names,
            "rename": partial(self._rename, kind, _names(kind)),
            "set_extension": self._set_extension,
            "absent": _ABSENT,
            "too_deep": too_deep,
            "Violation": Violation,
        }
        define(_source(kind), f"<JSON to {kind.full_name}>", names)
        fill = cast("Filler", names["fill"])
        # Registered first, for a type that contains itself.
        self._fillers[kind] = fill
        for field in kind.fields:
            part = f"read_{field.number}" if is_single_scalar(field) else f"fill_{field.number}"
            names[part] = _reader(field) if is_single_scalar(field) else self._field_filler(field)
        return fill

    def _rename(
        self, kind: Descriptor, names: Mapping[str, str], value: dict[str, Any]
    ) -> dict[str, Any]:
        """Return an object with each field under its JSON name."""
        renamed: dict[str, Any] = {}
        for given, item in value.items():
            name = names.get(given)
            if name is None and self._find_extension(kind, given) is not None:
                name = given
            if name is None:
                raise Violation("is not known", "UNKNOWN_FIELD").within(excerpt(given))
            if name in renamed:
                raise Violation("excludes another field that is given").within(given)
            renamed[name] = item
        return renamed

    def _find_extension(self, kind: Descriptor, name: str) -> FieldDescriptor | None:
        try:
            field = self._pool.FindExtensionByName(name[1:-1])
        except KeyError:
            return None
        extends = field.containing_type == kind and name == f"[{field.full_name}]"
        return field if extends else None

    def _set_extension(self, message: Any, name: str, value: Any, depth: int) -> None:
        field = self._find_extension(message.DESCRIPTOR, name)
        if field is not None and (value is not None or _takes_null(field)):
            self._extension_setter(field)(message, value, depth)


def _held(message: Any, field: FieldDescriptor) -> Any:
    """Return the message or container that a field holds."""
    return message.Extensions[field] if field.is_extension else getattr(message, field.name)


def _names(kind: Descriptor) -> dict[str, str]:
    """Return the JSON name of each field by both of its names; JSON names win over proto names."""
    by_proto_name = {field.name: field.json_name for field in kind.fields}
    return {**by_proto_name, **{field.json_name: field.json_name for field in kind.fields}}


def _source(kind: Descriptor) -> Iterator[str]:
    """Yield the function that fills a message from an object, field by field."""
    yield "def fill(message, value, depth):"
    yield f"    if depth > {MAX_DEPTH}: raise too_deep()"
    yield "    if type(value) is not dict: raise Violation('must be an object')"
    yield "    set_in_parent(message)"
    yield "    given = value if json_names.issuperset(value) else rename(value)"
    yield "    get = given.get"
    yield "    name = ''"
    yield "    try:"
    for field in kind.fields:
        yield from (f"        {line}" for line in _field_source(field))
    if kind.is_extendable:
        yield "        for name in given.keys() - json_names:"
        yield "            set_extension(message, name, given[name], depth)"
    yield "        pass"
    yield "    except Violation as violation:"
    yield "        raise violation.within(name if name in value else proto_names[name]) from None"


def _field_source(field: FieldDescriptor) -> Iterator[str]:
    if _takes_null(field):
        yield f"if (item := get({field.json_name!r}, absent)) is not absent:"
    else:
        yield f"if (item := get({field.json_name!r})) is not None:"
    yield f"    name = {field.json_name!r}"
    oneof = field.containing_oneof
    if oneof is not None and len(oneof.fields) > 1:
        yield f"    if which(message, {oneof.name!r}):"
        yield "        raise Violation('excludes another field that is given')"
    if not is_single_scalar(field):
        yield f"    fill_{field.number}({field_access(field)}, item, depth + 1)"
    elif iskeyword(field.name):
        yield f"    setattr(message, {field.name!r}, {_scalar_source(field)})"
    else:
        yield f"    message.{field.name} = {_scalar_source(field)}"


def _scalar_source(field: FieldDescriptor) -> str:
    read = f"read_{field.number}(item)"
    return f"{_INLINE[field.type]} else {read}" if field.type in _INLINE else read


def _reader(field: FieldDescriptor) -> Reader:
    read = scalar_reader(field)
    return (lambda value: 0 if value is None else read(value)) if _takes_null(field) else read


def _takes_null(field: FieldDescriptor) -> bool:
    kind = field.message_type or field.enum_type
    return kind is not None and not field.is_repeated and kind.full_name in _NULL_TYPES


def _fill_wrapper(read: Reader, message: Any, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise too_deep()
    message.value = read(value)


def _serialize(message: Message) -> bytes:
    try:
        return message.SerializeToString()
    except EncodeError:
        raise Violation("lacks a required field") from None
