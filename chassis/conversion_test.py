"""Money, timestamps and field masks become values of the domain, and back."""

import datetime as dt
import re

import pytest
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2, timestamp_pb2
from google.type import money_pb2
from hypothesis import assume, given
from hypothesis import strategies as st

from chassis import conversion, errors
from chassis.money import Amount


def to_money(amount: Amount) -> money_pb2.Money:
    money = money_pb2.Money()
    conversion.fill_money(money, amount)
    return money


@given(st.integers(0, 10**14), st.sampled_from(["GBP", "JPY", "KWD"]))
def test_parse_money_reverses_fill_money(minor: int, currency_code: str) -> None:
    amount = Amount(minor, currency_code)
    money = to_money(amount)
    assume(money.units <= conversion.MAX_UNITS)
    assert conversion.parse_money(money, "price") == amount


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_to_timestamp_agrees_with_protobuf(moment: dt.datetime) -> None:
    expected = timestamp_pb2.Timestamp()
    expected.FromDatetime(moment)
    assert conversion.to_timestamp(moment) == expected


def test_units_and_nanos_of_a_negative_amount_are_negative() -> None:
    money = to_money(Amount(-250, "GBP"))
    assert (money.units, money.nanos) == (-2, -500_000_000)


@pytest.mark.parametrize(
    ("money", "field"),
    [
        (money_pb2.Money(currency_code="GBX", units=1), "price.currency_code"),
        (money_pb2.Money(units=1), "price.currency_code"),
        (money_pb2.Money(currency_code="GBP", units=-1), "price.units"),
        (money_pb2.Money(currency_code="GBP", units=10**12 + 1), "price.units"),
        (money_pb2.Money(currency_code="GBP", nanos=-10_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="GBP", nanos=1_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="JPY", nanos=10_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="GBP", nanos=1_000_000_000), "price.nanos"),
    ],
)
def test_parse_money_names_the_field_that_is_wrong(money: money_pb2.Money, field: str) -> None:
    with pytest.raises(errors.Unprocessable) as raised:
        conversion.parse_money(money, "price")
    assert [violation.field for violation in raised.value.violations] == [field]


def test_parse_update_mask_follows_aip_134() -> None:
    allowed = {"seconds", "nanos"}
    resource = timestamp_pb2.Timestamp(seconds=1)
    mask = field_mask_pb2.FieldMask
    assert conversion.parse_update_mask(mask(paths=["nanos"]), resource, allowed) == {"nanos"}
    assert conversion.parse_update_mask(mask(paths=["*"]), resource, allowed) == allowed
    assert conversion.parse_update_mask(mask(), resource, allowed) == {"seconds"}
    with pytest.raises(errors.InvalidArgument, match="update_mask names etag"):
        conversion.parse_update_mask(mask(paths=["etag", "nanos"]), resource, allowed)


def test_parse_update_mask_extends_a_path_within_a_field_to_the_whole_field() -> None:
    allowed = {"error", "name"}
    resource = operations_pb2.Operation()
    mask = field_mask_pb2.FieldMask(paths=["error.code", "name", "error.message"])
    assert conversion.parse_update_mask(mask, resource, allowed) == allowed


@pytest.mark.parametrize(
    "path", ["error.codes", "error.", "error..code", "error.details.value", "name.code", "done", ""]
)
def test_parse_update_mask_rejects_unknown_and_immutable_fields(path: str) -> None:
    allowed = {"error", "name"}
    mask = field_mask_pb2.FieldMask(paths=["name", path])
    with pytest.raises(errors.InvalidArgument, match=re.escape(f"update_mask names {path};")):
        conversion.parse_update_mask(mask, operations_pb2.Operation(), allowed)
