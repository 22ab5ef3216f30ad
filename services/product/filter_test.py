"""The filter language: comparisons, and positions of errors."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from services.product import filter as filters
from services.product.filter import Comparison, Value


def parse_one(text: str) -> Comparison:
    (comparison,) = filters.parse(text)
    return comparison


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_filter_has_no_comparisons(text: str) -> None:
    assert filters.parse(text) == ()


def test_the_example_of_the_proto() -> None:
    text = 'categories:"lamps" AND price <= 9.99 AND attributes.colour = "red"'
    assert filters.parse(text) == (
        Comparison("categories", (), ":", "lamps"),
        Comparison("price", (), "<=", Decimal("9.99")),
        Comparison("attributes", ("colour",), "=", "red"),
    )


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("space", ["", " "])
def test_prices_and_stock_have_every_operator(operator: str, space: str) -> None:
    text = f"available{space}{operator}{space}-7"
    assert parse_one(text) == Comparison("available", (), operator, -7)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("red", "red"),
        ("'red'", "red"),
        ('"it\'s \\"red\\" \\\\"', 'it\'s "red" \\'),
        ('"true"', "true"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("3", 3),
        ("3.0", 3),
        ("-2.5", -2.5),
        ("1e3", 1000),
        ("1e300", 1e300),
        ('"%s"', "%s"),
        ('"\'; DROP TABLE products; --"', "'; DROP TABLE products; --"),
    ],
)
def test_attributes_compare_with_every_scalar(written: str, value: Value) -> None:
    found = parse_one(f"attributes.x = {written}")
    assert found == Comparison("attributes", ("x",), "=", value)
    assert type(found.value) is type(value)


def test_a_path_consists_of_words_and_quoted_keys() -> None:
    found = parse_one('attributes.size."max width".in-cm : 3')
    assert found == Comparison("attributes", ("size", "max width", "in-cm"), ":", 3)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=50))
def test_quoting_preserves_every_string(value: str) -> None:
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_one(f"attributes.x = {quoted}") == Comparison("attributes", ("x",), "=", value)


def test_strings_are_normalized_like_those_of_products() -> None:
    assert parse_one("name = ' Zoe\u0308'") == Comparison("name", (), "=", "Zo\u00eb")


@given(st.text(max_size=60))
def test_every_string_is_parsed_or_rejected(text: str) -> None:
    with contextlib.suppress(errors.InvalidArgument):
        filters.parse(text)


@pytest.mark.parametrize(
    ("text", "character", "problem"),
    [
        ("colour = red", 1, "unknown field colour"),
        ("price", 6, "expected an operator, found the end"),
        ("price <", 8, "expected a number, found the end"),
        ("price < cheap", 9, "expected a number, found cheap"),
        ('price < "9"', 9, 'expected a number, found "9"'),
        ("price : 9", 7, "price takes"),
        ("price < 1e400", 9, "too large"),
        ("price < 1e16", 9, "too large"),
        ("price < 0.0000000001", 9, "too precise"),
        ("price = 1e99999999999999999999", 9, "too large"),
        ("price = 0e2000000000", 9, "too large"),
        ("available = 1e-99999999999999999999", 13, "too precise"),
        ("available > 1.5", 13, "expected a whole number"),
        ("sku = 85123A", 7, "put text in quotes"),
        ("sku = 85123", 7, "expected a text in quotes"),
        ("sku > A", 5, "sku takes"),
        ("sku.x = A", 1, "sku has no fields"),
        ('name = "open', 8, "never closed"),
        ("name = 'open", 8, "never closed"),
        ("categories = lamps", 12, "categories takes :"),
        ("attributes = 1", 12, "the name of an attribute"),
        ("attributes. = 1", 13, "expected a name"),
        ("attributes.1 = 1", 12, "expected a name"),
        ("attributes.x > 1", 14, "attributes takes"),
        ("attributes.x = 1e999", 16, "too large"),
        ("attributes.x = =", 16, "expected a text, a number"),
        ("attributes" + ".x" * 11 + " = 1", 31, "more than 10 names"),
        ("sku = a OR sku = b", 9, "OR is not supported"),
        ("sku = a NOT sku = b", 9, "NOT is not supported"),
        ("sku = a sku = b", 9, "expected AND, found sku"),
        ("sku = a AND", 12, "expected a field"),
        ("(sku = a)", 1, "parentheses are not supported"),
        ("-sku = a", 1, "this is not a number"),
        ("sku = a; name = b", 8, "unexpected ';'"),
        ("sku = a\x00", 8, "NUL"),
        ('"sku" = a', 1, "expected a field"),
    ],
)
def test_an_error_has_the_position_and_the_problem(text: str, character: int, problem: str) -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        filters.parse(text)
    assert raised.value.reason == "INVALID_FILTER"
    assert raised.value.message.startswith(f"filter at character {character}: ")
    assert problem in raised.value.message
    assert [violation.field for violation in raised.value.violations] == ["filter"]


def test_parse_bounds_the_number_of_comparisons() -> None:
    assert len(filters.parse(" AND ".join(["sku = a"] * 20))) == 20
    with pytest.raises(errors.InvalidArgument, match="more than 20 comparisons"):
        filters.parse(" AND ".join(["sku = a"] * 21))


def test_parse_bounds_the_length() -> None:
    with pytest.raises(errors.InvalidArgument, match="more than 4000 characters"):
        filters.parse(f'name = "{"x" * 4_000}"')


def test_an_error_quotes_only_the_beginning_of_a_long_word() -> None:
    with pytest.raises(errors.InvalidArgument) as raised:
        filters.parse("x" * 3_999)
    assert len(raised.value.message) < 300
