"""The settings of the order service, and what they mean for payment methods."""

import uuid

import pytest
from pydantic import ValidationError

from bazaar.order.v1 import order_pb2
from services.order.messages import parse_order
from services.order.settings import OrderSettings

USER_ID = "0199aaaa-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("setting", "captured_manually"),
    [
        (None, ["paypal:checkout"]),
        ("paypal:,checkout", ["paypal:checkout", "checkout"]),
        ("*", ["paypal:checkout", "checkout", "pm_card_visa"]),
        ("", []),
    ],
    ids=["default", "PayPal without a prefix", "all", "none"],
)
def test_payments_are_captured_manually_by_the_prefixes_of_their_methods(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, captured_manually: list[str]
) -> None:
    if setting is not None:
        monkeypatch.setenv("ORDERSERVICE_MANUAL_CAPTURE", setting)
    prefixes = OrderSettings().orderservice_manual_capture
    methods = ("paypal:checkout", "checkout", "pm_card_visa")
    requests = [
        order_pb2.CreateOrderRequest(user_id=USER_ID, payment_method=each) for each in methods
    ]
    orders = [parse_order(request, uuid.UUID(USER_ID), "k", prefixes) for request in requests]
    assert [each.payment_method for each in orders if each.manual_capture] == captured_manually


def test_a_stray_comma_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERSERVICE_MANUAL_CAPTURE", "paypal:,")
    with pytest.raises(ValidationError, match="must not have an empty prefix"):
        OrderSettings()
