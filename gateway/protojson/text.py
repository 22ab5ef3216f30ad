"""JSON text (RFC 8259) to plain values, strictly; what the values mean is not known here.

orjson reads what it would write itself, but for white space. Python's own reader, which is slower,
takes the rest: objects that may have a name twice, numbers beyond 64 bits, escapes that need not
be, and whatever has to be explained.
"""

import json
from typing import Any

import orjson

from gateway.http.problems import Problem, invalid_argument
from gateway.protojson.errors import Refusal, refuse, shown

_SPACE = b" \t\n\r"


def parse_json(data: bytes) -> Any:
    """Read JSON text: UTF-8, no NaN or Infinity, no name twice in an object.

    Texts in the value have neither NUL nor lone surrogates, which databases and the wire cannot
    hold, and its floats are finite.

    Raises:
        Problem: with status 400 and reason INVALID_JSON; with INVALID_FIELD and the path for a text
            or a number that cannot be held.
    """
    if b"\\u0000" not in data:
        try:
            value = orjson.loads(data)
            if _is_whole(value, data):
                return value
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            # It is read again below, for its sense or for what is wrong with it.
            pass
    return _read_strictly(data)


def _is_whole(value: Any, data: bytes) -> bool:
    """Say whether a value is all that its text says.

    orjson writes a name once, and an integer that it has read as a float as a float. To leave the
    white space out changes the texts within, but parts none and joins none.
    """
    written = orjson.dumps(value)
    return written == data or written.translate(None, _SPACE) == data.translate(None, _SPACE)


def _read_strictly(data: bytes) -> Any:
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
        _check(value)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid_json(f"The JSON is malformed at {where}: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise _invalid_json("The JSON is not UTF-8.") from error
    except RecursionError as error:
        raise _invalid_json("The JSON nests too deep.") from error
    except ValueError as error:
        # Integers of thousands of digits end here too.
        detail = error.args[0] if isinstance(error, _StrictError) else "A number is too long."
        raise _invalid_json(detail) from error
    except Refusal as refusal:
        raise refusal.problem() from refusal
    return value


class _StrictError(ValueError):
    """JSON that Python would take and RFC 8259 or RFC 7493 would not."""


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise _StrictError("The JSON has an object that names a field twice.")
    return whole


def _refuse_constant(name: str) -> None:
    raise _StrictError(f"The JSON has {name}, which is no JSON number.")


def _check(value: Any) -> None:
    kind = type(value)
    if kind is str:
        check_text(value)
    elif kind is dict:
        for name, item in value.items():
            try:
                check_text(name)
                _check(item)
            except Refusal as refusal:
                raise refusal.within(shown(name)) from None
    elif kind is list:
        for index, item in enumerate(value):
            try:
                _check(item)
            except Refusal as refusal:
                raise refusal.within(f"[{index}]") from None
    elif kind is float and value - value != 0.0:
        refuse("is too large for a number")


def check_text(value: str) -> None:
    """Check that databases and the wire can hold a text.

    Raises:
        Refusal: they cannot.
    """
    if "\x00" in value:
        refuse("must not contain NUL")
    if not value.isascii() and not _is_encodable(value):
        refuse("must not contain lone surrogates")


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid_json(detail: str) -> Problem:
    return invalid_argument(detail, "INVALID_JSON")
