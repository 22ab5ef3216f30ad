"""JSON to messages and back, by the proto3 JSON mapping.

What comes in is read strictly and checked by json_rules before google.protobuf.json_format converts
it. A client of this module sees only `JsonCodec`; how it converts may change behind it.
"""

import json
from typing import Any, cast

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from gateway.errors import Problem, invalid_argument
from gateway.json_rules import MAX_DEPTH, Rules
from gateway.json_scalars import Refusal


def parse_json(data: bytes) -> Any:
    """Read JSON text (RFC 8259) strictly: UTF-8, no NaN or Infinity, no name twice in an object.

    Raises:
        Problem: with status 400 and reason INVALID_JSON.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid_json(f"The JSON is malformed at {where}: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise _invalid_json("The JSON is not UTF-8.") from error
    except RecursionError as error:
        raise _invalid_json(f"The JSON nests deeper than {MAX_DEPTH} levels.") from error
    except ValueError as error:
        # Integers of thousands of digits end here too.
        detail = error.args[0] if isinstance(error, _StrictError) else "A number is too long."
        raise _invalid_json(detail) from error


class JsonCodec:
    """Converts between JSON and the messages of one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._rules = Rules(pool)

    def merge(self, value: Any, message: Message) -> None:
        """Put a parsed JSON value into an empty message.

        Raises:
            Problem: the value does not fit; the problem names the field.
        """
        try:
            self._rules.check_message(value, cast("Descriptor", message.DESCRIPTOR))
        except Refusal as refusal:
            raise refusal.problem() from refusal
        self._convert(value, message)

    def merge_field(self, value: Any, message: Message, field: FieldDescriptor) -> None:
        """Put a parsed JSON value into one field of a message.

        Raises:
            Problem: the value does not fit; the problem names the place within the value.
        """
        try:
            self._rules.field_check(field)(value, 1)
        except Refusal as refusal:
            raise refusal.problem() from refusal
        self._convert({field.json_name: value}, message)

    def dump(self, message: Message) -> bytes:
        """Write a message as JSON on one line; fields with default values are left out."""
        return orjson.dumps(json_format.MessageToDict(message, descriptor_pool=self._pool))

    def dump_line(self, message: Message) -> bytes:
        """Write a message as one record of NDJSON."""
        whole = json_format.MessageToDict(message, descriptor_pool=self._pool)
        return orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)

    def dump_field(self, message: Message, field: FieldDescriptor) -> bytes:
        """Write one field of a message as JSON, the default value if it is not set."""
        if field.message_type is not None and not field.is_repeated:
            return self.dump(getattr(message, field.name))
        whole = json_format.MessageToDict(message, descriptor_pool=self._pool)
        if field.json_name not in whole:
            whole = json_format.MessageToDict(
                type(message)(), always_print_fields_with_no_presence=True
            )
        return orjson.dumps(whole.get(field.json_name))

    def _convert(self, value: Any, message: Message) -> None:
        try:
            json_format.ParseDict(
                value, message, descriptor_pool=self._pool, max_recursion_depth=2 * MAX_DEPTH
            )
        except (json_format.ParseError, ValueError, TypeError) as error:
            raise invalid_argument("The JSON does not fit the request.", "INVALID_FIELD") from error


def given_paths(value: Any, message: Descriptor) -> list[str]:
    """Return the paths of the fields that a JSON object gives, in proto names, leaves only.

    A map, a repeated field and a well-known type count as one leaf, and so does a null.
    """
    paths = []
    for name, item in value.items():
        field = next(at for at in message.fields if name in (at.name, at.json_name))
        nested = field.message_type
        is_leaf = nested is None or field.is_repeated or nested.file.package == "google.protobuf"
        if is_leaf or not item:
            paths.append(field.name)
        else:
            paths.extend(
                f"{field.name}.{path}" for path in given_paths(item, cast("Descriptor", nested))
            )
    return paths


class _StrictError(ValueError):
    """JSON that Python would take and RFC 8259 or RFC 7493 would not."""


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise _StrictError("The JSON has an object that names a field twice.")
    return whole


def _refuse_constant(name: str) -> None:
    raise _StrictError(f"The JSON has {name}, which is no JSON number.")


def _invalid_json(detail: str) -> Problem:
    return invalid_argument(detail, "INVALID_JSON")
