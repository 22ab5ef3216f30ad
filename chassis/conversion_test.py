"""Between the wire and the domain, and back."""

import datetime as dt
import re

import pytest
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2, timestamp_pb2
from google.type import money_pb2
from hypothesis import given
from hypothesis import strategies as st

from chassis import conversion, errors


@given(st.integers(0, 10**14), st.sampled_from(["GBP", "JPY", "KWD"]))
def test_money_survives_the_way_there_and_back(minor: int, currency_code: str) -> None:
    money = conversion.to_money(minor, currency_code)
    if money.units <= 10**12:
        assert conversion.parse_money(money, "price") == (minor, currency_code)


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_to_timestamp_agrees_with_protobuf(moment: dt.datetime) -> None:
    expected = timestamp_pb2.Timestamp()
    expected.FromDatetime(moment)
    assert conversion.to_timestamp(moment) == expected


def test_to_money_gives_both_parts_of_a_negative_amount_its_sign() -> None:
    money = conversion.to_money(-250, "GBP")
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
def test_parse_money_rejects_what_is_no_price(money: money_pb2.Money, field: str) -> None:
    with pytest.raises(errors.Unprocessable) as raised:
        conversion.parse_money(money, "price")
    assert [violation.field for violation in raised.value.violations] == [field]


def test_parse_ids_says_which_one_is_bad() -> None:
    good = "0199aaaa-0000-7000-8000-000000000000"
    with pytest.raises(errors.InvalidArgument, match=r"ids\[1\] must be a UUID"):
        conversion.parse_ids([good, "nonsense"], "ids")


@pytest.mark.parametrize("spelling", ["{0199aaaa-0000-7000-8000-000000000000}", "urn:uuid:x", "٣"])
def test_parse_id_takes_the_canonical_form_only(spelling: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        conversion.parse_id(spelling, "id")


def test_mask_paths_follows_aip_134() -> None:
    allowed = {"seconds", "nanos"}
    resource = timestamp_pb2.Timestamp(seconds=1)
    mask = field_mask_pb2.FieldMask
    assert conversion.mask_paths(mask(paths=["nanos"]), resource, allowed) == {"nanos"}
    assert conversion.mask_paths(mask(paths=["*"]), resource, allowed) == allowed
    assert conversion.mask_paths(mask(), resource, allowed) == {"seconds"}
    with pytest.raises(errors.InvalidArgument, match="update_mask names etag"):
        conversion.mask_paths(mask(paths=["etag", "nanos"]), resource, allowed)


def test_mask_paths_takes_a_path_within_a_field_for_the_whole_field() -> None:
    allowed = {"error", "name"}
    resource = operations_pb2.Operation()
    mask = field_mask_pb2.FieldMask(paths=["error.code", "name", "error.message"])
    assert conversion.mask_paths(mask, resource, allowed) == allowed


@pytest.mark.parametrize(
    "path", ["error.codes", "error.", "error..code", "error.details.value", "name.code", "done", ""]
)
def test_mask_paths_rejects_what_is_no_field(path: str) -> None:
    allowed = {"error", "name"}
    mask = field_mask_pb2.FieldMask(paths=["name", path])
    with pytest.raises(errors.InvalidArgument, match=re.escape(f"update_mask names {path};")):
        conversion.mask_paths(mask, operations_pb2.Operation(), allowed)
