"""The fake keeps the rules of Payments v2, and its books show what they led to."""

from typing import Any

import httpx
import pytest

from tools.fakes.paypal.testing import PayPal

pytest_plugins = ("tools.fakes.paypal.testing",)

ORDERS = "/v2/checkout/orders"
DAY_HOURS = 24


def usd(value: str) -> dict[str, str]:
    return {"currency_code": "USD", "value": value}


def authorize(paypal: PayPal, instrument: str = "accepted") -> str:
    unit = {"amount": usd("100.00"), "custom_id": "order-7", "invoice_id": "order-7"}
    order = paypal.post(ORDERS, {"intent": "AUTHORIZE", "purchase_units": [unit]}).json()
    paypal.act(order["id"], instrument=instrument)
    authorized = paypal.post(f"{ORDERS}/{order['id']}/authorize").raise_for_status().json()
    authorization_id = authorized["purchase_units"][0]["payments"]["authorizations"][0]["id"]
    return f"/v2/payments/authorizations/{authorization_id}"


def capture(paypal: PayPal) -> str:
    taken = paypal.post(f"{authorize(paypal)}/capture", {"final_capture": True})
    return f"/v2/payments/captures/{taken.raise_for_status().json()['id']}"


def find_issue(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["details"][0]["issue"]


def read_order(paypal: PayPal) -> dict[str, Any]:
    (order,) = paypal.read_books()
    return order


def test_an_authorization_is_captured_once(paypal: PayPal) -> None:
    authorization = authorize(paypal)
    assert read_order(paypal)["held"] == "100.00"
    response = paypal.post(f"{authorization}/capture", {"final_capture": True})
    assert (response.status_code, response.json()["status"]) == (201, "COMPLETED")
    assert response.json()["amount"] == usd("100.00")
    assert paypal.get(authorization).json()["status"] == "CAPTURED"
    second = paypal.post(f"{authorization}/capture", {"final_capture": True})
    assert find_issue(second) == (422, "AUTHORIZATION_ALREADY_CAPTURED")
    assert read_order(paypal) | {"id": ""} == {
        "id": "",
        "custom_id": "order-7",
        "status": "COMPLETED",
        "currency_code": "USD",
        "held": "0",
        "captured": "100.00",
        "captures": ["100.00"],
        "refunded": "0",
        "refunds": [],
    }


def test_captures_are_at_most_115_percent_of_the_authorization(paypal: PayPal) -> None:
    path = f"{authorize(paypal)}/capture"
    assert paypal.post(path, {"amount": usd("60.00")}).is_success
    response = paypal.post(path, {"amount": usd("55.01")})
    assert find_issue(response) == (422, "MAX_CAPTURE_AMOUNT_EXCEEDED")
    assert paypal.post(path, {"amount": usd("55.00")}).is_success
    assert read_order(paypal)["captured"] == "115.00"


def test_a_capture_has_the_currency_of_its_authorization(paypal: PayPal) -> None:
    amount = {"currency_code": "EUR", "value": "1.00"}
    response = paypal.post(f"{authorize(paypal)}/capture", {"amount": amount})
    assert find_issue(response) == (422, "AUTH_CAPTURE_CURRENCY_MISMATCH")


def test_a_voided_authorization_is_neither_captured_nor_voided_again(paypal: PayPal) -> None:
    authorization = authorize(paypal)
    response = paypal.post(f"{authorization}/void", minimal=True)
    assert (response.status_code, response.content) == (204, b"")
    assert paypal.get(authorization).json()["status"] == "VOIDED"
    assert find_issue(paypal.post(f"{authorization}/capture")) == (422, "AUTHORIZATION_VOIDED")
    assert find_issue(paypal.post(f"{authorization}/void")) == (422, "PREVIOUSLY_VOIDED")
    assert (read_order(paypal)["held"], read_order(paypal)["status"]) == ("0", "VOIDED")


def test_a_captured_authorization_is_not_voided(paypal: PayPal) -> None:
    authorization = authorize(paypal)
    paypal.post(f"{authorization}/capture", {"final_capture": True})
    assert find_issue(paypal.post(f"{authorization}/void")) == (422, "PREVIOUSLY_CAPTURED")


def test_an_authorization_expires_after_29_days(paypal: PayPal) -> None:
    authorization = authorize(paypal)
    paypal.advance(hours=29 * DAY_HOURS)
    paypal.renew_token()
    assert find_issue(paypal.post(f"{authorization}/capture")) == (422, "AUTHORIZATION_EXPIRED")


@pytest.mark.parametrize(
    ("instrument", "status", "captured"),
    [("capture_declined", "DECLINED", "0"), ("capture_pending", "PENDING", "100.00")],
)
def test_a_capture_may_be_declined_or_pending(
    paypal: PayPal, instrument: str, status: str, captured: str
) -> None:
    response = paypal.post(f"{authorize(paypal, instrument)}/capture", {"final_capture": True})
    assert response.json()["status"] == status
    refund = paypal.post(f"/v2/payments/captures/{response.json()['id']}/refund")
    assert find_issue(refund) == (422, "TRANSACTION_REFUSED")
    assert read_order(paypal)["captured"] == captured


def test_refunds_are_at_most_what_was_captured(paypal: PayPal) -> None:
    path = capture(paypal)
    first = paypal.post(f"{path}/refund", {"amount": usd("60.00"), "invoice_id": "refund-1"})
    assert (first.status_code, first.json()["status"]) == (201, "COMPLETED")
    assert paypal.get(path).json()["status"] == "PARTIALLY_REFUNDED"
    more = paypal.post(f"{path}/refund", {"amount": usd("40.01")})
    assert find_issue(more) == (422, "REFUND_AMOUNT_EXCEEDED")
    rest = paypal.post(f"{path}/refund", {"invoice_id": "refund-2"}).json()
    assert rest["amount"] == usd("40.00")
    assert paypal.get(path).json()["status"] == "REFUNDED"
    assert find_issue(paypal.post(f"{path}/refund")) == (422, "CAPTURE_FULLY_REFUNDED")
    assert read_order(paypal)["refunded"] == "100.00"
    assert read_order(paypal)["refunds"] == [
        {"invoice_id": "refund-1", "value": "60.00"},
        {"invoice_id": "refund-2", "value": "40.00"},
    ]


def test_a_refund_has_the_currency_of_its_capture(paypal: PayPal) -> None:
    amount = {"currency_code": "EUR", "value": "1.00"}
    response = paypal.post(f"{capture(paypal)}/refund", {"amount": amount})
    assert find_issue(response) == (422, "REFUND_CAPTURE_CURRENCY_MISMATCH")


def test_refunds_are_possible_for_180_days(paypal: PayPal) -> None:
    path = capture(paypal)
    paypal.advance(hours=180 * DAY_HOURS)
    paypal.renew_token()
    assert find_issue(paypal.post(f"{path}/refund")) == (422, "REFUND_TIME_LIMIT_EXCEEDED")


def test_an_order_shows_its_refunds_by_invoice_id(paypal: PayPal) -> None:
    path = capture(paypal)
    refund = paypal.post(f"{path}/refund", {"invoice_id": "refund-1"}).json()
    order = paypal.get(f"{ORDERS}/{read_order(paypal)['id']}").json()
    (shown,) = order["purchase_units"][0]["payments"]["refunds"]
    assert (shown["id"], shown["invoice_id"]) == (refund["id"], "refund-1")
    assert paypal.get(f"/v2/payments/refunds/{refund['id']}").json() == shown


def test_a_repeated_request_id_refunds_once_for_45_days(paypal: PayPal) -> None:
    path = f"{capture(paypal)}/refund"
    body = {"amount": usd("10.00"), "invoice_id": "refund-1"}
    first = paypal.post(path, body, "a").json()["id"]
    paypal.advance(hours=44.9 * DAY_HOURS)
    paypal.renew_token()
    assert paypal.post(path, body, "a").json()["id"] == first
    paypal.advance(hours=0.2 * DAY_HOURS)
    paypal.renew_token()
    assert paypal.post(path, body, "a").json()["id"] != first
    assert read_order(paypal)["refunds"] == [{"invoice_id": "refund-1", "value": "10.00"}] * 2


def test_a_repeated_request_id_captures_and_voids_once(paypal: PayPal) -> None:
    path = f"{authorize(paypal)}/capture"
    first = paypal.post(path, {"final_capture": True}, "a").json()["id"]
    assert paypal.post(path, {"final_capture": True}, "a").json()["id"] == first
    path = f"{authorize(paypal)}/void"
    assert paypal.post(path, {}, "a").status_code == paypal.post(path, {}, "a").status_code == 200


def test_an_unknown_resource_is_not_found(paypal: PayPal) -> None:
    for kind in ("authorizations", "captures", "refunds"):
        response = paypal.get(f"/v2/payments/{kind}/0X")
        assert find_issue(response) == (404, "INVALID_RESOURCE_ID")


def test_books_are_read_page_by_page(paypal: PayPal) -> None:
    for _ in range(3):
        authorize(paypal)
    ids = [order["id"] for order in paypal.read_books()]
    assert ids == sorted(ids)
    page = paypal.client.get("/_fake/books", params={"after": ids[0], "limit": 1}).json()
    assert [order["id"] for order in page] == [ids[1]]
