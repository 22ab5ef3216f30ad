"""The filter language of lists: parses a subset of AIP-160 into typed comparisons. No SQL.

    filter     = comparison { "AND" comparison }
    comparison = field operator value
    field      = word { "." ( word | string ) }
    value      = word | string | number | "true" | "false" | "null"

    sku, name, currency_code    = !=            string
    categories                  :               string: one of the categories
    price                       = != < <= > >=  number, in units of the product's own currency: 9.99
    available                   = != < <= > >=  whole number
    attributes.x                = !=            string, number, true, false or null
    attributes.x                :               the same: an item of a list

A string needs quotes, single or double, unless it is one word; a backslash escapes the next
character. A path leads into nested objects; a key that is not a word is quoted, as in
`attributes.size."max width"`. Products without an attribute match "!=" of it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from chassis import errors
from chassis.text import is_readable, normalize
from services.product import domain

MAX_LENGTH = 4_000
MAX_COMPARISONS = 20
MAX_DEPTH = 10
"""The most keys of a path into the attributes."""

Value = str | int | float | Decimal | bool | None

_EQUALITY = frozenset({"=", "!="})
_ORDER = _EQUALITY | {"<", "<=", ">", ">="}
_OPERATORS = {
    "sku": _EQUALITY,
    "name": _EQUALITY,
    "currency_code": _EQUALITY,
    "categories": frozenset({":"}),
    "price": _ORDER,
    "available": _ORDER,
    "attributes": _EQUALITY | {":"},
}
_LITERALS = {"true": True, "false": False, "null": None}
_LARGEST = Decimal(10) ** 15
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -9, 15
_OUT_OF_BOUNDS = "the number is too large or too precise"
_SHOWN = 40
"""How many characters of the filter an error quotes."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_]))
    | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
    | (?P<operator><=|>=|!=|[=<>:])
    | (?P<dot>\.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition. `path` leads into `attributes` and is empty for the other fields.

    The value is a Decimal for price, an int for available, any JSON scalar for attributes, and a
    str for the others.
    """

    field: str
    path: tuple[str, ...]
    operator: str
    value: Value


def parse(text: str) -> tuple[Comparison, ...]:
    """Parse a filter into comparisons, all of which a product must match.

    Raises:
        errors.InvalidArgument: the filter is invalid; the message contains the position.
    """
    if len(text) > MAX_LENGTH:
        _fail(MAX_LENGTH, f"the filter has more than {MAX_LENGTH} characters")
    if "\x00" in text:
        _fail(text.index("\x00"), "NUL is not allowed")
    return _Parser(text).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokenize(text))
        self._next = 0

    def parse(self) -> tuple[Comparison, ...]:
        comparisons: list[Comparison] = []
        while self._peek().kind != "end":
            if comparisons:
                self._take_and()
            if len(comparisons) == MAX_COMPARISONS:
                _fail(self._peek().position, f"more than {MAX_COMPARISONS} comparisons")
            comparisons.append(self._comparison())
        return tuple(comparisons)

    def _comparison(self) -> Comparison:
        token = self._take("word", f"a field, one of {', '.join(_OPERATORS)}")
        field = token.text
        if field not in _OPERATORS:
            _fail(
                token.position, f"unknown field {field[:_SHOWN]}; it may be {', '.join(_OPERATORS)}"
            )
        path = self._path()
        if field == "attributes" and not path:
            _fail(self._peek().position, "expected a dot and the name of an attribute")
        if field != "attributes" and path:
            _fail(token.position, f"{field} has no fields of its own")
        operator = self._take("operator", "an operator")
        if operator.text not in _OPERATORS[field]:
            allowed = " ".join(sorted(_OPERATORS[field]))
            _fail(operator.position, f"{field} takes {allowed} and not {operator.text}")
        return Comparison(field, path, operator.text, self._value(field))

    def _path(self) -> tuple[str, ...]:
        keys: list[str] = []
        while self._peek().kind == "dot":
            dot = self._take("dot", "a dot")
            if len(keys) == MAX_DEPTH:
                _fail(dot.position, f"more than {MAX_DEPTH} names in a path")
            key = self._peek()
            if key.kind == "string":
                keys.append(_unquote(self._take("string", "a name").text))
            else:
                keys.append(self._take("word", "a name").text)
        return tuple(keys)

    def _value(self, field: str) -> Value:
        token = self._peek()
        self._next += 1
        if field == "price":
            return _decimal(token, "a number")
        if field == "available":
            return _whole(token)
        if field == "attributes":
            return _scalar(token)
        text = _text(token)
        # Strings of products are normalized, and all readable: another one matches nothing.
        return normalize(text) if is_readable(text) else text

    def _take_and(self) -> None:
        token = self._take("word", "AND")
        if token.text in ("OR", "NOT"):
            _fail(token.position, f"{token.text} is not supported, only AND")
        if token.text != "AND":
            _fail(token.position, f"expected AND, found {token.text[:_SHOWN]}")

    def _take(self, kind: str, expected: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            _fail_expected(token, expected)
        self._next += 1
        return token

    def _peek(self) -> _Token:
        return self._tokens[self._next]


def _tokenize(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _fail(position, _explain(text[position]))
        kind = str(match.lastgroup)
        if kind != "space":
            yield _Token(kind, match.group(), position)
        position = match.end()
    yield _Token("end", "", len(text))


def _explain(character: str) -> str:
    if character in "\"'":
        return "this quote is never closed"
    if character in "()":
        return "parentheses are not supported, only comparisons joined by AND"
    if character.isdigit() or character == "-":
        return "this is not a number; put text in quotes"
    return f"unexpected {character!r}; put text in quotes"


def _text(token: _Token) -> str:
    if token.kind == "string":
        return _unquote(token.text)
    if token.kind != "word":
        _fail_expected(token, "a text in quotes")
    return token.text


def _decimal(token: _Token, expected: str) -> Decimal:
    if token.kind != "number":
        _fail_expected(token, expected)
    try:
        value = Decimal(token.text)
    except InvalidOperation:  # The exponent is larger than Decimal can hold.
        _fail(token.position, _OUT_OF_BOUNDS)
    # PostgreSQL bounds numeric as well; no price is near these bounds.
    exponent = int(value.as_tuple().exponent)
    if not _SMALLEST_EXPONENT <= exponent <= _LARGEST_EXPONENT or value.copy_abs() > _LARGEST:
        _fail(token.position, _OUT_OF_BOUNDS)
    return value


def _whole(token: _Token) -> int:
    value = _decimal(token, "a whole number")
    if value != int(value):
        _fail(token.position, "expected a whole number")
    return int(value)


def _scalar(token: _Token) -> Value:
    if token.kind == "number":
        # Numbers of attributes are doubles, so that this compares with the nearest double.
        number = float(token.text)
        if not math.isfinite(number):
            _fail(token.position, "the number is too large")
        return domain.simplify_number(number)
    if token.kind == "word" and token.text in _LITERALS:
        return _LITERALS[token.text]
    if token.kind not in ("word", "string"):
        _fail_expected(token, "a text, a number, true, false or null")
    return _text(token)


def _unquote(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1], flags=re.DOTALL)


def _fail_expected(token: _Token, expected: str) -> NoReturn:
    found = token.text[:_SHOWN] if token.kind != "end" else "the end"
    _fail(token.position, f"expected {expected}, found {found}")


def _fail(position: int, problem: str) -> NoReturn:
    violation = errors.Violation("filter", f"at character {position + 1}: {problem}")
    raise errors.InvalidArgument("INVALID_FILTER", violations=[violation])
