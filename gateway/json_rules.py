"""The rules of the proto3 JSON mapping for messages that come in, checked before any conversion.

Stricter than json_format where security asks for it: no field twice under its two names, and no
nesting that a service could not read from the wire. Scalars are in json_scalars.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from gateway.descriptors import is_map
from gateway.json_scalars import Refusal, check_double, check_scalar, check_text, refuse, shown

MAX_DEPTH = 100
"""How deep messages may nest: what protobuf reads from the wire in every language."""

_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A field as the checks need it, looked up once."""

    exclusive: tuple[str, ...]
    """The names that at most one given field may claim: its own, and its oneof's."""
    takes_null: bool
    check: "Callable[[Any, int], None]"


class Rules:
    """Checks parsed JSON against message types."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._fields: dict[str, dict[str, _Known]] = {}
        self._special: dict[str, Callable[[Any, Descriptor, int], None]] = {
            "google.protobuf.Any": self._check_any,
            "google.protobuf.Duration": _check_from_text,
            "google.protobuf.FieldMask": _check_from_text,
            "google.protobuf.ListValue": _check_list,
            "google.protobuf.Struct": _check_struct,
            "google.protobuf.Timestamp": _check_from_text,
            "google.protobuf.Value": _check_value,
            **dict.fromkeys(_WRAPPERS, _check_wrapper),
        }

    def check_message(self, value: Any, message: Descriptor, depth: int = 1) -> None:
        """Check a value for a message type; `depth` counts the messages it lies in, and itself.

        Raises:
            Refusal: it breaks a rule.
        """
        _check_depth(depth)
        special = self._special.get(message.full_name)
        if special is not None:
            special(value, message, depth)
        else:
            self._check_fields(_expect_object(value), message, depth)

    def field_check(self, field: FieldDescriptor) -> Callable[[Any, int], None]:
        """Return the check of a value, which is not null, for a field of a message at a depth."""
        if is_map(field):
            return partial(self._check_map, cast("Descriptor", field.message_type))
        single = self._single_check(field)
        return partial(_check_repeated, single) if field.is_repeated else single

    def _single_check(self, field: FieldDescriptor) -> Callable[[Any, int], None]:
        if field.message_type is None:
            return lambda value, _depth: check_scalar(value, field)
        kind = field.message_type
        return lambda value, depth: self.check_message(value, kind, depth + 1)

    def _check_fields(self, value: dict[str, Any], message: Descriptor, depth: int) -> None:
        fields = self._known_fields(message)
        seen: set[str] = set()
        for name, item in value.items():
            known = fields.get(name)
            if known is None:
                raise Refusal("is not known", "UNKNOWN_FIELD").within(shown(name))
            if not seen.isdisjoint(known.exclusive):
                raise Refusal("excludes another field that is given").within(name)
            if item is None and not known.takes_null:
                seen.add(known.exclusive[0])
                continue
            seen.update(known.exclusive)
            try:
                known.check(item, depth)
            except Refusal as refusal:
                raise refusal.within(name) from None

    def _known_fields(self, message: Descriptor) -> dict[str, _Known]:
        fields = self._fields.get(message.full_name)
        if fields is None:
            fields = self._fields[message.full_name] = {}
            for field in message.fields:
                oneof = field.containing_oneof
                exclusive = (field.name,) if oneof is None else (field.name, oneof.name)
                known = _Known(exclusive, _takes_null(field), self.field_check(field))
                fields[field.name] = fields[field.json_name] = known
        return fields

    def _check_map(self, entry: Descriptor, value: Any, depth: int) -> None:
        key_field = entry.fields_by_name["key"]
        check = self._single_check(entry.fields_by_name["value"])
        for key, item in _expect_object(value).items():
            try:
                _check_key(key, key_field)
                check(item, depth + 1)
            except Refusal as refusal:
                raise refusal.within(shown(key)) from None

    def _check_any(self, value: Any, _message: Descriptor, depth: int) -> None:
        if not _expect_object(value):
            return
        url = value.get("@type")
        if type(url) is not str:
            raise Refusal("must name a type").within("@type")
        try:
            inner = self._pool.FindMessageTypeByName(url.rpartition("/")[2])
        except KeyError:
            raise Refusal("is not a known type").within("@type") from None
        rest = {name: item for name, item in value.items() if name != "@type"}
        if inner.full_name not in self._special:
            self._check_fields(rest, inner, depth + 1)
        elif rest.keys() != {"value"}:
            refuse("must have a value and nothing else beside its @type")
        else:
            self.check_message(rest["value"], inner, depth + 1)


def _check_repeated(check: Callable[[Any, int], None], value: Any, depth: int) -> None:
    if type(value) is not list:
        refuse("must be an array")
    for index, item in enumerate(value):
        try:
            check(item, depth)
        except Refusal as refusal:
            raise refusal.within(f"[{index}]") from None


def _check_struct(value: Any, message: Descriptor, depth: int) -> None:
    _check_depth(depth)
    for name, item in _expect_object(value).items():
        try:
            check_text(name)
            _check_value(item, message, depth + 2)
        except Refusal as refusal:
            raise refusal.within(shown(name)) from None


def _check_list(value: Any, message: Descriptor, depth: int) -> None:
    _check_depth(depth)
    _check_repeated(lambda item, inner: _check_value(item, message, inner), value, depth + 1)


def _check_value(value: Any, message: Descriptor, depth: int) -> None:
    _check_depth(depth)
    if type(value) is dict:
        _check_struct(value, message, depth + 1)
    elif type(value) is list:
        _check_list(value, message, depth + 1)
    elif type(value) is str:
        check_text(value)
    elif type(value) in (int, float):
        check_double(value)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        refuse(f"must not nest deeper than {MAX_DEPTH} messages")


def _check_key(key: str, field: FieldDescriptor) -> None:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if key not in ("true", "false"):
            refuse("must have true or false for a key")
    else:
        check_scalar(key, field)


def _check_wrapper(value: Any, message: Descriptor, _depth: int) -> None:
    check_scalar(value, message.fields_by_name["value"])


def _check_from_text(value: Any, message: Descriptor, _depth: int) -> None:
    check_text(value)
    try:
        message_class: Any = message_factory.GetMessageClass(message)
        message_class().FromJsonString(value)
    except (ValueError, OverflowError):
        refuse(f"is not a valid {message.name}")


def _takes_null(field: FieldDescriptor) -> bool:
    kind = field.message_type or field.enum_type
    null_types = ("google.protobuf.Value", "google.protobuf.NullValue")
    return kind is not None and not field.is_repeated and kind.full_name in null_types


def _expect_object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        refuse("must be an object")
    return value
