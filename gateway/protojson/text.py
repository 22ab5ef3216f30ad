"""JSON text (RFC 8259) as plain values, read strictly.

orjson reads what it would write itself, apart from white space. Python's own parser, which is
slower, reads the rest: objects that may have a name twice, numbers beyond 64 bits, unnecessary
escapes, and text whose error has to be explained.
"""

import json
from typing import Any

import orjson

from gateway.protojson.errors import InvalidJsonError, Violation, excerpt

_SPACE = b" \t\n\r"


def parse_json(data: bytes) -> Any:
    """Read JSON text: UTF-8, no NaN or Infinity, no name twice in an object.

    Strings in the value have neither NUL nor lone surrogates, which databases and the wire cannot
    hold, and its floats are finite.

    Raises:
        InvalidJsonError: the text is not such JSON.
        Violation: a string or a number in it cannot be held.
    """
    if b"\\u0000" not in data:
        try:
            value = orjson.loads(data)
            if _is_whole(value, data):
                return value
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass  # It is read again below, and if it is wrong, explained.
    return _read_strictly(data)


def _is_whole(value: Any, data: bytes) -> bool:
    """Return whether a value represents all of its text.

    orjson keeps one of two equal names, and reads a long integer as a float: neither is written
    back as it was. Strings lose their white space on both sides, but are not split or joined.
    """
    written = orjson.dumps(value)
    return written == data or written.translate(None, _SPACE) == data.translate(None, _SPACE)


def _read_strictly(data: bytes) -> Any:
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_reject_constant,
        )
        _check(value)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJsonError(f"The JSON is malformed at {where}: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise InvalidJsonError("The JSON is not UTF-8.") from error
    except RecursionError as error:
        raise InvalidJsonError("The JSON nests too deep.") from error
    except ValueError as error:
        raise InvalidJsonError("A number is too long.") from error
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise InvalidJsonError("The JSON has an object that names a field twice.")
    return whole


def _reject_constant(name: str) -> None:
    raise InvalidJsonError(f"The JSON has {name}, which is no JSON number.")


def _check(value: Any) -> None:
    kind = type(value)
    if kind is str:
        check_string(value)
    elif kind is dict:
        for name, item in value.items():
            try:
                check_string(name)
                _check(item)
            except Violation as violation:
                raise violation.within(excerpt(name)) from None
    elif kind is list:
        for index, item in enumerate(value):
            try:
                _check(item)
            except Violation as violation:
                raise violation.within(f"[{index}]") from None
    elif kind is float and value - value != 0.0:
        raise Violation("is too large for a number")


def check_string(value: str) -> None:
    """Check that databases and the wire can hold a string.

    Raises:
        Violation: it contains NUL or a lone surrogate.
    """
    if "\x00" in value:
        raise Violation("must not contain NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Violation("must not contain lone surrogates") from None
