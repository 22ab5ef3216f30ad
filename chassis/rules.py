"""The rules that fields of requests have in the protos, as options of buf.validate.

A rule that only the domain can decide (what a text looks like once it is normalized, what must not
be there twice) is not among them. Text that people write is therefore bounded twice: here as it is
sent, which also bounds the time to normalize it, and in the domain as it is stored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import protovalidate
from google.protobuf.message import Message

from chassis import errors

MAX_BYTES_FOR_ALL_VIOLATIONS = 4 * 1024
"""The size from which only the first violation of a message is looked for.

A million of them, which fit into one message, would take half a minute and 4 GB.
"""

_UUID: Final = ("string.uuid", "string.uuid_empty")
_NUL: Final = "\x00"

_RULES: Final[Mapping[str, Callable[[Any], str]]] = {
    **dict.fromkeys(_UUID, lambda _: "must be a UUID"),
    "int32.not_in": lambda values: f"must not be {' or '.join(map(str, values))}",
    "repeated.max_items": lambda most: f"must have at most {most:,} items",
    "repeated.min_items": lambda least: f"must have at least {_count(least, 'item')}",
    "string.not_contains": lambda part: f"must not contain {part.replace(_NUL, 'NUL')}",
    "string.max_len": lambda most: f"must have at most {most:,} characters",
    "string.min_len": lambda least: f"must have at least {_count(least, 'character')}",
}
"""What rules say, by their ids and given their values, where protovalidate is less clear."""


def check(message: Message) -> None:
    """Check every rule that the fields of a message have.

    Raises:
        errors.InvalidArgument: an id is not a UUID.
        errors.Unprocessable: another rule is broken. Either error has a violation for each broken
            rule, or for the first one if the message is large.
    """
    first = protovalidate.collect_violations(message, fail_fast=True)
    if not first:
        return
    if message.ByteSize() <= MAX_BYTES_FOR_ALL_VIOLATIONS:
        first = protovalidate.collect_violations(message)
    raise _to_error(first)


def _to_error(found: Sequence[protovalidate.Violation]) -> errors.InvalidArgument:
    violations = [errors.Violation(_path(each), _rule(each)) for each in found]
    rules = "; ".join(f"{violation.field} {violation.rule}" for violation in violations)
    if any(each.proto.rule_id in _UUID for each in found):
        return errors.InvalidArgument("INVALID_ID", rules, violations=violations)
    return errors.Unprocessable("INVALID_FIELD", rules, violations=violations)


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
    say = _RULES.get(violation.proto.rule_id)
    return violation.proto.message if say is None else say(violation.rule_value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
