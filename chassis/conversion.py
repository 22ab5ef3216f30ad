"""Between the wire and the domain: ids, times, money and masks. No service's rules live here."""

import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from typing import cast

from google.protobuf import field_mask_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.type import money_pb2

from chassis import errors
from chassis.currency import MINOR_DIGITS

MAX_BATCH = 1_000
"""The most items that a batch method takes."""

_NANO_DIGITS = 9
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def parse_id(value: str, field: str) -> uuid.UUID:
    """Parse an id in the canonical 8-4-4-4-12 form.

    Raises:
        errors.InvalidArgument: it is not a UUID.
    """
    try:
        parsed = uuid.UUID(value)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != value.lower():
        violation = errors.Violation(field, "must be a UUID")
        raise errors.InvalidArgument(
            "INVALID_ID", f"{field} must be a UUID", violations=[violation]
        )
    return parsed


def parse_ids(values: Sequence[str], field: str) -> list[uuid.UUID]:
    """Parse at most `MAX_BATCH` ids.

    Raises:
        errors.InvalidArgument: there are more, or one is not a UUID.
    """
    check_batch_size(values, field)
    return [parse_id(value, f"{field}[{index}]") for index, value in enumerate(values)]


def check_batch_size(items: Sequence[object], field: str) -> None:
    """Check that a batch is not larger than `MAX_BATCH`.

    Raises:
        errors.InvalidArgument: it is.
    """
    if len(items) > MAX_BATCH:
        raise errors.InvalidArgument("BATCH_TOO_LARGE", f"{field} has more than {MAX_BATCH} items")


def to_timestamp(moment: dt.datetime) -> timestamp_pb2.Timestamp:
    """Express a moment, which knows its zone, as a Timestamp."""
    # Timestamp.FromDatetime does the same in four times the time, which a long list notices.
    since = moment - _EPOCH
    return timestamp_pb2.Timestamp(
        seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000
    )


def to_money(minor: int, currency_code: str) -> money_pb2.Money:
    """Express an amount in minor units as Money; a negative one has both parts negative."""
    scale = 10 ** MINOR_DIGITS[currency_code]
    sign = -1 if minor < 0 else 1
    units, fraction = divmod(abs(minor), scale)
    nanos = fraction * 10**_NANO_DIGITS // scale
    return money_pb2.Money(currency_code=currency_code, units=sign * units, nanos=sign * nanos)


def parse_money(money: money_pb2.Money, field: str) -> tuple[int, str]:
    """Return the minor units and the currency code of Money that is not negative.

    Raises:
        errors.Unprocessable: the currency is not of ISO 4217, an amount is negative or finer than
            the minor unit of its currency, or larger than 10^12 units.
    """
    violations = errors.Violations()
    digits = MINOR_DIGITS.get(money.currency_code)
    violations.check(
        digits is not None, f"{field}.currency_code", "must be an ISO 4217 currency code"
    )
    violations.check(0 <= money.units <= 10**12, f"{field}.units", "must be between 0 and 10^12")
    step = 10 ** (_NANO_DIGITS - (digits or 0))
    violations.check(
        0 <= money.nanos < 10**_NANO_DIGITS and money.nanos % step == 0,
        f"{field}.nanos",
        "must be between 0 and 999999999 and no finer than the minor unit of the currency",
    )
    violations.raise_any()
    return money.units * 10 ** (digits or 0) + money.nanos // step, money.currency_code


def check_read_mask(
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


def mask_paths(
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
    unknown = sorted({path for path in mask.paths if not _leads_into(path, resource, allowed)})
    if unknown:
        names, choice = ", ".join(unknown), ", ".join(sorted(allowed))
        message = f"update_mask names {names}; it may name {choice}"
        raise errors.InvalidArgument("INVALID_UPDATE_MASK", message)
    return frozenset(_first_name(path) for path in mask.paths)


def _leads_into(path: str, resource: Message, allowed: Collection[str]) -> bool:
    descriptor = cast("Descriptor", resource.DESCRIPTOR)
    exists = field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(descriptor)
    return exists and _first_name(path) in allowed


def _first_name(path: str) -> str:
    return path.partition(".")[0]
