"""Well-known types that are strings in JSON, both ways: Timestamp, Duration and FieldMask.

Stricter than google.protobuf, as the JSON mapping demands: a Timestamp has the format of RFC 3339
with all of its digits, and at most nine for the fraction of a second.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway.protojson.errors import MAX_DEPTH, UnwritableError, Violation, too_deep

_match_timestamp = re.compile(
    r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]T(?:[01][0-9]|2[0-3]):[0-9][0-9]:[0-9][0-9]"
    r"(?:\.[0-9]{1,6}([0-9]{0,3}))?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
"""Matches the format; the group has the digits of the fraction after the microseconds."""

_match_duration = re.compile(r"(-?)([0-9]{1,20})(?:\.([0-9]{1,9}))?s").fullmatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_DURATION_SECONDS_MAX = 315_576_000_000
_NANOS_MAX = 999_999_999

_SECONDS_OF_HOUR = tuple(f"{second // 60:02}:{second % 60:02}" for second in range(3600))
_THREE_DIGITS = tuple(f"{number:03}" for number in range(1000))


def _write_timestamp(message: Any) -> str:
    """Write a Timestamp in UTC, with 0, 3, 6 or 9 digits of a second."""
    seconds, nanos = message.seconds, message.nanos
    if not 0 <= nanos <= _NANOS_MAX:
        raise UnwritableError(f"a Timestamp has {nanos} nanos")
    start = _write_hour(seconds // 3600) + _SECONDS_OF_HOUR[seconds % 3600]
    return f"{start}{_write_fraction(nanos)}Z"


def _fill_timestamp(message: Any, value: Any, depth: int) -> None:
    """Fill a Timestamp from a string by RFC 3339 §5.6, in upper case."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is not str:
        raise Violation("must be a string")
    match = _match_timestamp(value)
    if match is None:
        raise Violation("is not a valid Timestamp")
    try:
        since = datetime.fromisoformat(value) - _EPOCH
    except ValueError:
        raise Violation("is not a valid Timestamp") from None
    seconds = since.days * 86_400 + since.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise Violation("is not a valid Timestamp")
    message.seconds = seconds
    nanos = since.microseconds * 1000
    beyond = match[1]
    message.nanos = nanos + int(beyond.ljust(3, "0")) if beyond else nanos


def _write_duration(message: Any) -> str:
    """Write a Duration in seconds, with 0, 3, 6 or 9 decimal places."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _DURATION_SECONDS_MAX or abs(nanos) > _NANOS_MAX or seconds * nanos < 0:
        raise UnwritableError(f"a Duration has {seconds} seconds and {nanos} nanos")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_write_fraction(abs(nanos))}s"


def _fill_duration(message: Any, value: Any, depth: int) -> None:
    """Fill a Duration from a string such as "-1.5s"."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is not str:
        raise Violation("must be a string")
    match = _match_duration(value)
    if match is None:
        raise Violation("is not a valid Duration")
    sign, whole, digits = match.groups(default="")
    seconds, nanos = int(whole), int(digits.ljust(9, "0"))
    if seconds > _DURATION_SECONDS_MAX:
        raise Violation("is not a valid Duration")
    message.seconds = -seconds if sign else seconds
    message.nanos = -nanos if sign else nanos


def _write_mask(message: Any) -> str:
    """Write a FieldMask: paths in lowerCamelCase, separated by commas."""
    return ",".join(map(_write_path, message.paths))


def _fill_mask(message: Any, value: Any, depth: int) -> None:
    """Fill a FieldMask from paths in lowerCamelCase, separated by commas."""
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is not str:
        raise Violation("must be a string")
    if "_" in value:
        raise Violation("is not a valid FieldMask")
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in value)
    message.paths.extend(snake.split(",") if snake else ())


WRITERS: Mapping[str, Callable[[Any], Any]] = {
    "google.protobuf.Duration": _write_duration,
    "google.protobuf.FieldMask": _write_mask,
    "google.protobuf.Timestamp": _write_timestamp,
}
"""By the full names of the types; each raises UnwritableError for what JSON has no value for."""
FILLERS: Mapping[str, Callable[[Any, Any, int], None]] = {
    "google.protobuf.Duration": _fill_duration,
    "google.protobuf.FieldMask": _fill_mask,
    "google.protobuf.Timestamp": _fill_timestamp,
}
"""By the full names of the types; each raises a Violation for a value that is not valid."""


@lru_cache(maxsize=4096)
def _write_hour(hours: int) -> str:
    """Write a time up to its hour and the colon after it; most responses have few hours."""
    try:
        return (_EPOCH + timedelta(hours=hours)).isoformat()[:14]
    except OverflowError as error:
        raise UnwritableError("a Timestamp is not in the years 1 to 9999") from error


def _write_fraction(nanos: int) -> str:
    if nanos % 1000:
        return f".{nanos:09}"
    millis = _THREE_DIGITS[nanos // 1_000_000]
    if nanos % 1_000_000:
        return f".{millis}{_THREE_DIGITS[nanos // 1000 % 1000]}"
    return f".{millis}" if nanos else ""


def _write_path(path: str) -> str:
    first, *others = path.split("_")
    if any(map(str.isupper, path)) or not all(word[:1].islower() for word in others):
        raise UnwritableError(f"a FieldMask has the path {path}")
    return first + "".join(word[0].upper() + word[1:] for word in others)
