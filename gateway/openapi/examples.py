"""Examples of messages in JSON, exactly as the gateway writes them.

A value comes from the comment of the field if it says `for example "home"`, or from the usual
meaning of its name, or from its type.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.openapi.comments import Comments
from gateway.openapi.values import NULL_VALUE, is_long
from gateway.protojson.kinds import is_map, is_wrapper
from gateway.protojson.scalars import FLOATS
from gateway.routing.fields import behaviors

MAX_DEPTH = 5
"""How deep messages nest in an example."""

_EXAMPLE = re.compile(
    r'\b[Ff]or example[,:]? (?:"([^"]+)"|`([^`]+)`|([A-Z][A-Z0-9_]+|[0-9]+)(?![\w-]))'
)

_UNSENT = frozenset({"etag", "page_token", "update_mask", "validate_only"})
"""Fields that change the meaning of a request: conditions, page tokens and dry runs."""

_UUID = "01932c07-209b-7a3e-9d2f-3c5b8e1a4f60"
_BY_NAME: Mapping[str, str] = {
    "id": _UUID,
    "ids": _UUID,
    "email": "ada@example.com",
    "uri": "https://example.com/picture.png",
    "url": "https://example.com/picture.png",
    "password": "correct horse battery staple",
    "etag": "5d41402abc4b2a76",
    "token": "b2Zmc2V0PTEwMA",
    "currency_code": "EUR",
    "language_code": "en-GB",
    "region_code": "GB",
}
_WELL_KNOWN: Mapping[str, Any] = {
    "google.protobuf.Any": {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "NOT_READY",
        "domain": "example.com",
    },
    "google.protobuf.Duration": "90s",
    "google.protobuf.FieldMask": "displayName",
    "google.protobuf.ListValue": ["red", "green"],
    "google.protobuf.Struct": {"colour": "red"},
    "google.protobuf.Timestamp": "2026-01-02T03:04:05Z",
    "google.protobuf.Value": "red",
    "google.rpc.Status": {"code": 5, "message": "There is no such thing."},
    "google.type.Money": {"currencyCode": "EUR", "units": "12", "nanos": 500_000_000},
}
_ABSENT = object()
"""The field is left out: every value that it could have would be its default."""


class Examples:
    """Makes the examples of one direction: of requests, or of responses."""

    def __init__(self, comments: Comments, hidden: str, left_out: frozenset[str]) -> None:
        """Leave out the fields with the behaviour `hidden` and those named in `left_out`."""
        self._comments = comments
        self._hidden = hidden
        self._left_out = left_out

    def message(self, message: Descriptor, without: Collection[str] = ()) -> Any:
        """Return an example of a message, without the fields named in `without`."""
        return self._message(message, without, ())

    def field(self, field: FieldDescriptor) -> Any:
        """Return an example of a field's value, which may be its default."""
        value = self._field(field, ())
        if value is not _ABSENT or field.enum_type is None:
            return value
        is_null = field.enum_type.full_name == NULL_VALUE
        default = None if is_null else field.enum_type.values[0].name
        return [default] if field.is_repeated else default

    def _message(
        self, message: Descriptor, without: Collection[str], entered: tuple[str, ...]
    ) -> Any:
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        if is_wrapper(message):
            return self._single(message.fields_by_name["value"], entered)
        if message.full_name in entered or len(entered) == MAX_DEPTH:
            return _ABSENT
        inside = (*entered, message.full_name)
        values = {
            field.json_name: self._field(field, inside)
            for field in message.fields
            if field.name not in without and self._is_shown(field)
        }
        return {name: value for name, value in values.items() if value is not _ABSENT}

    def _is_shown(self, field: FieldDescriptor) -> bool:
        oneof = field.containing_oneof
        return (
            self._hidden not in behaviors(field)
            and field.name not in self._left_out
            and (oneof is None or oneof.fields[0] == field)
        )

    def _field(self, field: FieldDescriptor, entered: tuple[str, ...]) -> Any:
        if is_map(field):
            entry = cast("Descriptor", field.message_type).fields_by_name
            value = self._single(entry["value"], entered)
            return value if value is _ABSENT else {_key(entry["key"]): value}
        value = self._single(field, entered)
        return [value] if field.is_repeated and value is not _ABSENT else value

    def _single(self, field: FieldDescriptor, entered: tuple[str, ...]) -> Any:
        if field.message_type is not None:
            return self._message(field.message_type, (), entered)
        given = _comment_example(self._comments.of(field.full_name))
        if field.enum_type is not None:
            return _enum_value(field.enum_type, given)
        if field.type == FieldDescriptor.TYPE_STRING:
            return given or _text(field.name)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return "aGVsbG8="
        if field.type == FieldDescriptor.TYPE_BOOL:
            return True
        if field.type in FLOATS:
            return 1.5
        whole = int(given) if given.isdecimal() and int(given) else 1
        return str(whole) if is_long(field) else whole


def of_requests(comments: Comments) -> Examples:
    """Return the maker of examples of requests."""
    return Examples(comments, "OUTPUT_ONLY", _UNSENT)


def of_responses(comments: Comments) -> Examples:
    """Return the maker of examples of responses."""
    return Examples(comments, "INPUT_ONLY", frozenset())


def _comment_example(comment: str) -> str:
    found = _EXAMPLE.search(comment)
    return "" if found is None else next(text for text in found.groups() if text)


def _text(name: str) -> str:
    words = name.split("_")
    ends = ("_".join(words[start:]) for start in range(len(words)))
    return next((_BY_NAME[end] for end in ends if end in _BY_NAME), " ".join(words))


def _enum_value(enum: EnumDescriptor, given: str) -> Any:
    if given in enum.values_by_name:
        return given
    return next((value.name for value in enum.values if value.number), _ABSENT)


def _key(key: FieldDescriptor) -> str:
    if key.type == FieldDescriptor.TYPE_STRING:
        return "key"
    return "true" if key.type == FieldDescriptor.TYPE_BOOL else "1"
