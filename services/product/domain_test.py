"""Rules of products and their stock."""

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import pytest

from chassis import errors
from chassis.money import Amount
from services.product import domain

PRODUCT_ID = uuid.UUID(int=1)
DETAILS = domain.Details(
    sku="85123A",
    name="White hanging heart",
    description="A heart that hangs.",
    categories=("home", "lamps"),
    price=Amount(255, "GBP"),
    image_uri="https://example.com/85123A.jpg",
    attributes={"colour": "white"},
)
STOCK = domain.Stock(available=5, reserved=2, sold=3, stocked=10)
MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PRODUCT = domain.Product(PRODUCT_ID, DETAILS, STOCK, 3, MOMENT, MOMENT)


def violated(details: domain.Details) -> list[str]:
    with pytest.raises(errors.Unprocessable) as raised:
        domain.check_details(details)
    return [violation.field for violation in raised.value.violations]


def test_check_details_accepts_the_largest_values() -> None:
    domain.check_details(
        replace(
            DETAILS,
            sku="s" * 64,
            name="n" * 200,
            description="d" * 10_000,
            categories=("c" * 100,) * 20,
            image_uri="",
            attributes={"a": "x" * (16 * 1024 - len('{"a":""}'))},
        )
    )


def test_check_details_names_every_invalid_field() -> None:
    bad = replace(
        DETAILS,
        sku="",
        name="n" * 201,
        description="d" * 10_001,
        categories=("", "ok", "c" * 101),
        attributes={"a": "x" * (16 * 1024 - len('{"a":""}') + 1)},
    )
    assert violated(bad) == [
        "sku",
        "name",
        "description",
        "categories[0]",
        "categories[2]",
        "attributes",
    ]


@pytest.mark.parametrize("field", ["sku", "name", "description", "image_uri"])
def test_check_details_rejects_nul(field: str) -> None:
    bad: dict[str, Any] = {field: "http://a\x00"}
    assert field in violated(replace(DETAILS, **bad))


@pytest.mark.parametrize("uri", ["ftp://a", "example.com", "javascript:alert(1)", "http://", "//a"])
def test_check_details_rejects_an_invalid_image_uri(uri: str) -> None:
    assert violated(replace(DETAILS, image_uri=uri)) == ["image_uri"]


def test_check_details_measures_attributes_in_bytes() -> None:
    assert violated(replace(DETAILS, attributes={"a": "é" * 8_192})) == ["attributes"]


@pytest.mark.parametrize("etag", ["", PRODUCT.etag])
def test_check_etag_accepts_the_current_one_and_none(etag: str) -> None:
    domain.check_etag(PRODUCT, etag)


def test_check_etag_rejects_a_stale_etag() -> None:
    with pytest.raises(errors.Aborted):
        domain.check_etag(PRODUCT, "2")


def test_the_etag_changes_with_the_stock_but_stays_valid_for_updates() -> None:
    sold = replace(PRODUCT, stock=domain.Stock(available=4, reserved=2, sold=4, stocked=10))
    assert sold.etag != PRODUCT.etag
    domain.check_etag(sold, PRODUCT.etag)


def test_check_deletable_rejects_a_reserved_product() -> None:
    domain.check_deletable(PRODUCT_ID, replace(STOCK, reserved=0))
    with pytest.raises(errors.FailedPrecondition) as raised:
        domain.check_deletable(PRODUCT_ID, replace(STOCK, reserved=1))
    assert raised.value.reason == "PRODUCT_RESERVED"


def adjustment(delta: int, reason: str = "", idempotency_key: str = "") -> domain.Adjustment:
    return domain.Adjustment(PRODUCT_ID, delta, reason, idempotency_key)


def test_check_adjustment_rejects_an_unreadable_reason() -> None:
    with pytest.raises(errors.Unprocessable, match="reason must not contain control"):
        domain.check_adjustment(adjustment(1, reason="r\x00"))


@pytest.mark.parametrize("delta", [-5, -1, 1, domain.MAX_STOCK - 10])
def test_adjust_stock_keeps_the_sum_of_the_counts(delta: int) -> None:
    adjusted = domain.adjust_stock(STOCK, adjustment(delta))
    assert adjusted == replace(STOCK, available=5 + delta, stocked=10 + delta)
    assert adjusted.available + adjusted.reserved + adjusted.sold == adjusted.stocked


def test_adjust_stock_removes_no_more_than_is_available() -> None:
    with pytest.raises(domain.OutOfStock) as raised:
        domain.adjust_stock(STOCK, adjustment(-6))
    assert raised.value.http_status == 409
    assert raised.value.metadata == {"product_id": str(PRODUCT_ID)}


def test_adjust_stock_rejects_more_than_the_limit() -> None:
    with pytest.raises(errors.FailedPrecondition) as raised:
        domain.adjust_stock(STOCK, adjustment(domain.MAX_STOCK - 9))
    assert raised.value.reason == "STOCK_LIMIT"


@pytest.mark.parametrize("other", [adjustment(2, "r", "1"), adjustment(1, "s", "1")])
def test_check_repeated_rejects_another_adjustment(other: domain.Adjustment) -> None:
    recorded = adjustment(1, "r", "1")
    domain.check_repeated(adjustment(1, "r", "1"), recorded)
    with pytest.raises(errors.InvalidArgument) as raised:
        domain.check_repeated(other, recorded)
    assert raised.value.reason == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize("field", ["sku", "name"])
@pytest.mark.parametrize("value", [" ", "\u200b", "\x1b", "LAMP\u200b17", "LAMP\n"])
def test_check_details_rejects_unreadable_text(field: str, value: str) -> None:
    changes: dict[str, Any] = {field: value}
    assert violated(replace(DETAILS, **changes)) == [field]


def test_check_details_normalizes_text() -> None:
    written = replace(DETAILS, sku=" 17 ", name="Zoe\u0308", categories=("home ",))
    kept = domain.check_details(replace(written, description="One\n\ttwo\n"))
    assert kept == replace(
        DETAILS, sku="17", name="Zo\u00eb", categories=("home",), description="One\n\ttwo"
    )


def test_check_details_bounds_combining_marks() -> None:
    description = "a" + "\u0301\u0316" * 4_000
    assert violated(replace(DETAILS, description=description)) == ["description"]
