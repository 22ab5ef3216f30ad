"""Conversion of the message types that all services share: Timestamp, Money and FieldMask."""

import datetime as dt
from collections.abc import Collection
from typing import TypeVar, cast

from google.protobuf import field_mask_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.type import money_pb2

from chassis import errors
from chassis.money import MINOR_DIGITS, Amount
from chassis.violations import Violations

MessageType = TypeVar("MessageType", bound=Message)

MAX_UNITS = 10**12
"""The most whole units of a currency that a client may send."""

_NANOS = 10**9
_SCALES = {code: 10**digits for code, digits in MINOR_DIGITS.items()}
"""How many minor units make one unit, by currency."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def to_timestamp(moment: dt.datetime) -> timestamp_pb2.Timestamp:
    """Convert a datetime, which must be aware of its time zone."""
    # Timestamp.FromDatetime does the same but takes four times as long, which matters for lists.
    since = moment - _EPOCH
    return timestamp_pb2.Timestamp(
        seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000
    )


def fill_money(money: money_pb2.Money, amount: Amount) -> None:
    """Convert an amount into a field of a message, without the copy that CopyFrom makes.

    For a negative amount, neither `units` nor `nanos` is positive.
    """
    scale = _SCALES[amount.currency_code]
    sign = -1 if amount.minor < 0 else 1
    units, fraction = divmod(abs(amount.minor), scale)
    money.currency_code = amount.currency_code
    money.units = sign * units
    money.nanos = sign * fraction * (_NANOS // scale)


def parse_money(money: money_pb2.Money, field: str) -> Amount:
    """Convert Money, which must not be negative.

    Raises:
        errors.Unprocessable: the currency is not in ISO 4217, or the amount is negative, more than
            `MAX_UNITS` or not a whole number of minor units.
    """
    scale = _SCALES.get(money.currency_code)
    step = _NANOS // (scale or 1)
    violations = Violations()
    violations.check(
        scale is not None, f"{field}.currency_code", "must be an ISO 4217 currency code"
    )
    violations.check(0 <= money.units <= MAX_UNITS, f"{field}.units", "must be between 0 and 10^12")
    violations.check(
        0 <= money.nanos < _NANOS and money.nanos % step == 0,
        f"{field}.nanos",
        "must be between 0 and 999999999 and no finer than the minor unit of the currency",
    )
    violations.raise_any()
    return Amount(money.units * (scale or 1) + money.nanos // step, money.currency_code)


def parse_read_mask(
    mask: field_mask_pb2.FieldMask, resource: Descriptor
) -> field_mask_pb2.FieldMask:
    """Return which fields to read: those named, and all for an empty mask or "*" (AIP-157).

    Raises:
        errors.InvalidArgument: the mask names a field that does not exist.
    """
    if not mask.paths or list(mask.paths) == ["*"]:
        return field_mask_pb2.FieldMask(paths=[field.name for field in resource.fields])
    if not mask.IsValidForDescriptor(resource):
        message = f"read_mask names a field that {resource.name} does not have"
        raise errors.InvalidArgument("INVALID_READ_MASK", message)
    return mask


def parse_update_mask(
    mask: field_mask_pb2.FieldMask, resource: Message, allowed: Collection[str]
) -> frozenset[str]:
    """Return which fields to update: those named, all for "*", those set for none (AIP-134).

    A path within a field, such as "price.units", stands for the whole field: values are replaced
    and never merged.

    Raises:
        errors.InvalidArgument: the mask names a field that does not exist or cannot be updated.
    """
    if not mask.paths:
        return frozenset(field.name for field, _ in resource.ListFields() if field.name in allowed)
    if list(mask.paths) == ["*"]:
        return frozenset(allowed)
    descriptor = cast("Descriptor", resource.DESCRIPTOR)
    names = {path: path.partition(".")[0] for path in mask.paths}
    unknown = [
        path
        for path, name in sorted(names.items())
        if name not in allowed
        or not field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(descriptor)
    ]
    if unknown:
        message = (
            f"update_mask names {', '.join(unknown)}; it may name {', '.join(sorted(allowed))}"
        )
        raise errors.InvalidArgument("INVALID_UPDATE_MASK", message)
    return frozenset(names.values())


def update(resource: MessageType, changes: MessageType, fields: Collection[str]) -> MessageType:
    """Replace the named fields of a resource by those of `changes`, and return the resource."""
    mask = field_mask_pb2.FieldMask(paths=sorted(fields))
    mask.MergeMessage(changes, resource, replace_message_field=True, replace_repeated_field=True)
    return resource
