"""Rules for placing an order."""

import uuid
from dataclasses import replace

import pytest

from chassis import errors
from services.order import placement
from services.order.domain import Line, NewOrder

LAMP, BULB = uuid.UUID(int=1), uuid.UUID(int=2)
ORDER = NewOrder(uuid.UUID(int=8), "k", "pm_card_visa", (Line(LAMP, 1), Line(BULB, 1_000_000)))


def fields_of(order: NewOrder) -> list[str]:
    with pytest.raises(errors.InvalidArgument) as raised:
        placement.check_new_order(order)
    return [violation.field for violation in raised.value.violations]


def test_check_new_order_accepts_an_order() -> None:
    placement.check_new_order(ORDER)


def test_check_new_order_rejects_a_card_number() -> None:
    order = replace(ORDER, payment_method="4242 4242 4242 4242")
    assert fields_of(order) == ["payment_method"]


def test_check_new_order_rejects_a_repeated_product() -> None:
    lines = (Line(LAMP, 1), Line(BULB, 1), Line(LAMP, 2))
    assert fields_of(replace(ORDER, lines=lines)) == ["lines[2].product_id"]


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, payment_method="pm_sandbox"),
        replace(ORDER, lines=ORDER.lines[::-1]),
        replace(ORDER, lines=ORDER.lines[:1]),
        replace(ORDER, lines=(Line(LAMP, 2), ORDER.lines[1])),
        replace(ORDER, lines=ORDER.lines[:1], payment_method=f"{BULB} 1000000\npm_card_visa"),
    ],
)
def test_hash_request_differs_for_other_requests(other: NewOrder) -> None:
    assert placement.hash_request(ORDER) == placement.hash_request(
        replace(ORDER, idempotency_key="z")
    )
    assert placement.hash_request(other) != placement.hash_request(ORDER)


def test_hash_request_is_stable() -> None:
    """Hashes are stored with orders: with another one, repeated requests would be rejected."""
    assert placement.hash_request(ORDER).hex()[:16] == "f37d9d5bc3f1d888"
