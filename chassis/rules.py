"""The rules of fields that stand in the protos, as options of buf.validate.

What stays with the domain and with other modules of the chassis:

- What takes more than the field as it was sent: texts that people write are bounded here as they
  are sent, which bounds the time to normalize them too, and in the domain as they are stored.
- What an option would describe worse: codes of currencies and countries, masks, repeated items.
- What has a reason of its own, on which clients act: page sizes, page tokens, numbers of ids and
  sizes of chunks, and the idempotency keys of orders and refunds, which may also be metadata.

A repeated field of messages needs max_items: protovalidate visits every item otherwise, even if the
first one breaks a rule, which takes up to a minute for two million.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import protovalidate
from google.protobuf.message import Message

from chassis import errors
from chassis.status import MAX_VIOLATIONS

MAX_BYTES_FOR_ALL_VIOLATIONS = 4 * 1024
"""The size from which only the first violation of a message is looked for.

A million of them, which fit into one message, would take half a minute and 4 GB.
"""

_UUID: Final = ("string.uuid", "string.uuid_empty")
_NUL: Final = "\x00"

_DESCRIPTIONS: Final[Mapping[str, Callable[[Any], str]]] = {
    **dict.fromkeys(_UUID, lambda _: "must be a UUID"),
    "int32.not_in": lambda values: f"must not be {' or '.join(map(str, values))}",
    "repeated.max_items": lambda most: f"must have at most {most:,} items",
    "repeated.min_items": lambda least: f"must have at least {_count(least, 'item')}",
    "string.not_contains": lambda part: f"must not contain {part.replace(_NUL, 'NUL')}",
    "string.max_len": lambda most: f"must have at most {most:,} characters",
    "string.min_len": lambda least: f"must have at least {_count(least, 'character')}",
}
"""Makes a description of a rule's value, by the rule's id; other rules describe themselves."""


def check(message: Message) -> None:
    """Check the rules of all fields of a message.

    Raises:
        errors.InvalidArgument: an id is not a UUID.
        errors.Unprocessable: another rule is broken. Either error has as many violations as a
            status can have, or only the first one if the message is large.
    """
    first = protovalidate.collect_violations(message, fail_fast=True)
    if not first:
        return
    if message.ByteSize() <= MAX_BYTES_FOR_ALL_VIOLATIONS:
        first = protovalidate.collect_violations(message)
    raise _to_error(first)


def _to_error(found: Sequence[protovalidate.Violation]) -> errors.InvalidArgument:
    # To describe a violation takes longer than to find it.
    violations = [errors.Violation(_path(each), _rule(each)) for each in found[:MAX_VIOLATIONS]]
    if any(each.proto.rule_id in _UUID for each in found):
        return errors.InvalidArgument("INVALID_ID", violations=violations)
    return errors.Unprocessable("INVALID_FIELD", violations=violations)


def _path(violation: protovalidate.Violation) -> str:
    """Return the path of a field as google.rpc.BadRequest has it: `lines[3].quantity`."""
    field = violation.proto.field
    return ".".join(map(_step, field.elements)) if field is not None else ""


def _step(element: protovalidate.FieldPathElementPb) -> str:
    subscript = element.subscript
    if subscript is None or subscript.field != "index":
        return element.field_name
    return f"{element.field_name}[{subscript.value}]"


def _rule(violation: protovalidate.Violation) -> str:
    describe = _DESCRIPTIONS.get(violation.proto.rule_id)
    return violation.proto.message if describe is None else describe(violation.rule_value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
