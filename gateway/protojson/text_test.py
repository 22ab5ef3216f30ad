"""parse_json compared with a strict configuration of Python's parser, on misleading texts."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protojson.errors import InvalidJsonError, Violation
from gateway.protojson.text import parse_json

# Often equal names, of characters with a meaning in JSON.
TRICKY = st.text('":\\ a,{é😀\t', max_size=3)
UNHOLDABLE = st.sampled_from(("\x00", "\ud800", "\udfffa"))
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(("-0", "-0.0", "1E5", "1e-7", "0.10", "1e19", "1e999", "-1e999", "01", ".5")),
    st.sampled_from(("9223372036854775808", "18446744073709551616", "9" * 400, "NaN")),
)
SPACES = st.sampled_from(("", "", "", " ", "\n", "\t", "\r", "  "))


@st.composite
def strings(draw: st.DrawFn) -> str:
    text = draw(st.one_of(*[TRICKY] * 20, UNHOLDABLE))
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text if ord(letter) < 0x10000) + '"'


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    pairs = [
        draw(strings()) + draw(SPACES) + ":" + draw(SPACES) + draw(inner)
        for _ in range(draw(st.integers(0, 3)))
    ]
    return "{" + draw(SPACES) + ",".join(pairs) + "}"


def arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")


TEXTS = st.recursive(
    strings() | NUMBERS | st.sampled_from(("null", "true", "false", "")),
    lambda inner: objects(inner) | arrays(inner),
    max_leaves=8,
)


def refuse(_text: str) -> None:
    raise ValueError


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def is_holdable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_holdable(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(is_holdable, value))
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return not (isinstance(value, float) and math.isinf(value))


def read_strictly(data: bytes) -> Any:
    """Read as parse_json must read; raise ValueError for what it must reject."""
    value = json.loads(data.decode(), object_pairs_hook=make_object, parse_constant=refuse)
    if not is_holdable(value):
        raise ValueError
    return value


def assert_read_strictly(data: bytes) -> None:
    try:
        expected = read_strictly(data)
    except ValueError:
        with pytest.raises((InvalidJsonError, Violation)):
            parse_json(data)
    else:
        # Equal numbers may have different types.
        assert repr(parse_json(data)) == repr(expected)


MANY = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@MANY
@given(TEXTS)
def test_text_is_read_as_by_a_strict_parser(text: str) -> None:
    assert_read_strictly(text.encode("utf-8", "surrogatepass"))


@MANY
@given(TEXTS, st.integers(0, 40), st.integers(0, 2), st.binary(max_size=2))
def test_mutated_text_is_read_as_by_a_strict_parser(
    text: str, position: int, lost: int, found: bytes
) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert_read_strictly(data[:position] + found + data[position + lost :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"id": "a"',
        '{"id": "a",}',
        "{'id': 'a'}",
        "{id: 1}",
        "[1,]",
        "{} {}",
        "[] 1",
        "\ufeff{}",
        '{"id": "a\nb"}',
        '{"a": 01}',
        '{"a": .5}',
        '{"a": +1}',
        '{"a": 1.}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        "nul",
        '"\\x41"',
        "// a\n1",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        f'[{"9" * 5_000}, "\\u0000"]',
    ],
)
def test_malformed_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidJsonError):
        parse_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a" :1,"a" :1}',
        '{"b":{"a":1,"c":2,"a":1}}',
        '[{"":1,"":2}]',
        '{"a":1,"\\u0061":2}',
        '{"a":{},"a":{}}',
        '{"a":1,"a":2,"b":"\\u0022:"}',
        '{"a":1,"a"\n:2,"b":":"}',
        '{"a":1,"a":1.0,"b":"\\":"}',
        '{"a":1e400,"a":1}',
    ],
)
def test_duplicate_name_in_an_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidJsonError, match="names a field twice"):
        parse_json(text.encode())


@pytest.mark.parametrize(
    "data", [b'{"id": "\xff"}', b'{"id": "\xed\xa0\x80"}', '{"id": "a"}'.encode("utf-16")]
)
def test_text_that_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidJsonError, match="UTF-8"):
        parse_json(data)


def test_malformed_text_is_refused_by_line_and_column() -> None:
    with pytest.raises(InvalidJsonError, match="line 2, column 9"):
        parse_json(b'{"a": 1,\n  "b":  x}')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('"\\u0000"', ""),
        ('{"a": ["b", {"c": "\\u0000"}]}', "a[1].c"),
        ("[1e999]", "[0]"),
        ('{"a": "\\udc00\\ud800"}', "a"),
        ('{"a": {"\\ud800": 1}}', "a.(not a name)"),
        ('{"a": -1e999}', "a"),
    ],
)
def test_value_that_no_message_can_hold_is_refused_by_its_path(text: str, path: str) -> None:
    with pytest.raises(Violation) as caught:
        parse_json(text.encode())
    assert caught.value.path() == path


@pytest.mark.parametrize("digits", ["9223372036854775808", "18446744073709551616", "1" + "0" * 300])
def test_integers_beyond_64_bits_stay_integers(digits: str) -> None:
    for text in (f"[{digits}]", f"[-{digits}]", f'{{"a" : {digits}}}'):
        value = parse_json(text.encode())
        assert isinstance(value, list | dict)
        found = value[0] if isinstance(value, list) else value["a"]
        assert found in (int(digits), -int(digits))
        assert type(found) is int


def test_text_may_nest_far_deeper_than_messages() -> None:
    assert parse_json(b"[" * 500 + b"]" * 500) is not None
