"""The fake keeps the rules of access tokens, of Orders v2 and of the payer's page."""

from typing import Any

import httpx
import pytest

from tools.fakes.paypal.testing import PayPal

pytest_plugins = ("tools.fakes.paypal.testing",)

ORDERS = "/v2/checkout/orders"
USD_10 = {"currency_code": "USD", "value": "10.00"}
SOURCE = {
    "paypal": {
        "experience_context": {
            "return_url": "https://shop.example/return?order=7",
            "cancel_url": "https://shop.example/cancel",
        }
    }
}


def make_body(**fields: Any) -> dict[str, Any]:
    unit = {"amount": USD_10, "custom_id": "order-7", "invoice_id": "order-7"}
    return {"intent": "AUTHORIZE", "purchase_units": [unit], "payment_source": SOURCE, **fields}


def create(paypal: PayPal, **fields: Any) -> str:
    response = paypal.post(ORDERS, make_body(**fields)).raise_for_status()
    return str(response.json()["id"])


def find_issue(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["details"][0]["issue"]


def show(paypal: PayPal, order_id: str) -> dict[str, Any]:
    order: dict[str, Any] = paypal.get(f"{ORDERS}/{order_id}").raise_for_status().json()
    return order


def find_links(order: dict[str, Any]) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in order["links"]}


def test_a_wrong_client_gets_no_token(paypal: PayPal) -> None:
    response = paypal.client.post(
        "/v1/oauth2/token", data={"grant_type": "client_credentials"}, auth=("id", "wrong")
    )
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer unknown"}])
def test_calls_require_a_token(paypal: PayPal, headers: dict[str, str]) -> None:
    response = paypal.client.post(ORDERS, json=make_body(), headers=headers)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_token")


def test_a_token_expires_after_nine_hours(paypal: PayPal) -> None:
    paypal.advance(hours=8.9)
    assert paypal.post(ORDERS, make_body()).is_success
    paypal.advance(hours=0.2)
    assert paypal.post(ORDERS, make_body()).status_code == 401
    paypal.renew_token()
    assert paypal.post(ORDERS, make_body()).is_success


def test_an_order_with_a_payment_source_requires_its_payer(paypal: PayPal) -> None:
    order = show(paypal, create(paypal))
    assert order["status"] == "PAYER_ACTION_REQUIRED"
    assert order["purchase_units"][0]["amount"] == USD_10
    assert order["purchase_units"][0]["custom_id"] == "order-7"
    assert find_links(order)["payer-action"] == f"{paypal.url}/checkoutnow?token={order['id']}"


def test_an_order_without_a_payment_source_is_created(paypal: PayPal) -> None:
    body = make_body()
    del body["payment_source"]
    order = paypal.post(ORDERS, body).json()
    assert order["status"] == "CREATED"
    assert "approve" in find_links(order)


def test_responses_are_minimal_unless_a_representation_is_preferred(paypal: PayPal) -> None:
    order = paypal.post(ORDERS, make_body(), minimal=True).json()
    assert set(order) == {"id", "status", "links"}


@pytest.mark.parametrize(
    ("amount", "issue"),
    [
        ({"currency_code": "HUF", "value": "10.50"}, (422, "DECIMALS_NOT_SUPPORTED")),
        ({"currency_code": "JPY", "value": "10.0"}, (422, "DECIMALS_NOT_SUPPORTED")),
        ({"currency_code": "TWD", "value": "1.1"}, (422, "DECIMALS_NOT_SUPPORTED")),
        ({"currency_code": "USD", "value": "1.001"}, (422, "DECIMAL_PRECISION")),
        ({"currency_code": "KWD", "value": "1.00"}, (422, "CURRENCY_NOT_SUPPORTED")),
        ({"currency_code": "USD", "value": "0.00"}, (422, "CANNOT_BE_ZERO_OR_NEGATIVE")),
        ({"currency_code": "USD", "value": "-1.00"}, (422, "CANNOT_BE_ZERO_OR_NEGATIVE")),
        ({"currency_code": "USD", "value": "1e3"}, (400, "INVALID_PARAMETER_SYNTAX")),
        ({"currency_code": "USD", "value": 10}, (400, "INVALID_PARAMETER_SYNTAX")),
        (None, (400, "MISSING_REQUIRED_PARAMETER")),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    paypal: PayPal, amount: object, issue: tuple[int, str]
) -> None:
    response = paypal.post(ORDERS, make_body(purchase_units=[{"amount": amount}]))
    assert find_issue(response) == issue


@pytest.mark.parametrize(
    "body",
    [
        make_body(intent="SAVE"),
        make_body(purchase_units=[]),
        make_body(purchase_units=[{"amount": USD_10, "custom_id": "x" * 128}]),
        make_body(payment_source={"paypal": 7}),
        [],
    ],
)
def test_a_malformed_order_is_refused(paypal: PayPal, body: object) -> None:
    assert paypal.post(ORDERS, body).status_code == 400


def test_an_order_is_authorized_only_after_its_approval(paypal: PayPal) -> None:
    order_id = create(paypal)
    authorize = f"{ORDERS}/{order_id}/authorize"
    assert find_issue(paypal.post(authorize)) == (422, "ORDER_NOT_APPROVED")
    paypal.act(order_id)
    assert show(paypal, order_id)["status"] == "APPROVED"
    order = paypal.post(authorize).json()
    (authorization,) = order["purchase_units"][0]["payments"]["authorizations"]
    assert (order["status"], authorization["status"]) == ("COMPLETED", "CREATED")
    assert authorization["amount"] == USD_10
    assert find_issue(paypal.post(authorize)) == (422, "ORDER_ALREADY_AUTHORIZED")


def test_an_order_is_captured_or_authorized_as_it_was_intended(paypal: PayPal) -> None:
    held, taken = create(paypal), create(paypal, intent="CAPTURE")
    paypal.act(held)
    paypal.act(taken)
    for path in (f"{held}/capture", f"{taken}/authorize"):
        assert find_issue(paypal.post(f"{ORDERS}/{path}")) == (422, "ACTION_DOES_NOT_MATCH_INTENT")
    order = paypal.post(f"{ORDERS}/{taken}/capture").json()
    (capture,) = order["purchase_units"][0]["payments"]["captures"]
    assert (capture["status"], capture["amount"]) == ("COMPLETED", USD_10)
    second = paypal.post(f"{ORDERS}/{taken}/capture")
    assert find_issue(second) == (422, "ORDER_ALREADY_CAPTURED")


@pytest.mark.parametrize(
    ("action", "location"),
    [
        ("approve", "https://shop.example/return?order=7&token={}&PayerID=FAKEPAYER0001"),
        ("cancel", "https://shop.example/cancel?token={}"),
    ],
)
def test_the_payer_is_sent_back_to_the_shop(paypal: PayPal, action: str, location: str) -> None:
    order_id = create(paypal)
    response = paypal.act(order_id, action)
    assert (response.status_code, response.headers["location"]) == (303, location.format(order_id))


def test_a_payer_who_cancels_may_still_approve(paypal: PayPal) -> None:
    order_id = create(paypal)
    paypal.act(order_id, "cancel")
    assert show(paypal, order_id)["status"] == "PAYER_ACTION_REQUIRED"
    paypal.act(order_id)
    assert show(paypal, order_id)["status"] == "APPROVED"


def test_the_page_shows_people_what_they_pay(paypal: PayPal) -> None:
    page = paypal.client.get(f"/checkoutnow?token={create(paypal)}")
    assert page.headers["content-type"].startswith("text/html")
    assert "10.00" in page.text
    assert "Pay now" in page.text


def test_an_expired_order_cannot_be_approved(paypal: PayPal) -> None:
    order_id = create(paypal)
    paypal.advance(hours=3)
    assert paypal.act(order_id).status_code == 404
    assert find_issue(paypal.get(f"{ORDERS}/{order_id}")) == (404, "INVALID_RESOURCE_ID")


def test_an_approved_order_expires_too(paypal: PayPal) -> None:
    order_id = create(paypal)
    paypal.advance(hours=2.9)
    paypal.act(order_id)
    paypal.advance(hours=2.9)
    assert show(paypal, order_id)["status"] == "APPROVED"
    paypal.advance(hours=0.2)
    response = paypal.post(f"{ORDERS}/{order_id}/authorize")
    assert find_issue(response) == (422, "ORDER_EXPIRED")


@pytest.mark.parametrize(
    ("instrument", "issue"),
    [("declined", "INSTRUMENT_DECLINED"), ("challenged", "PAYER_ACTION_REQUIRED")],
)
def test_a_refused_instrument_lets_the_payer_choose_another(
    paypal: PayPal, instrument: str, issue: str
) -> None:
    order_id = create(paypal)
    paypal.act(order_id, instrument=instrument)
    response = paypal.post(f"{ORDERS}/{order_id}/authorize")
    assert find_issue(response) == (422, issue)
    assert find_links(response.json())["payer-action"].endswith(order_id)
    assert show(paypal, order_id)["status"] == "PAYER_ACTION_REQUIRED"
    paypal.act(order_id)
    assert paypal.post(f"{ORDERS}/{order_id}/authorize").status_code == 201


def test_an_unknown_order_is_not_found(paypal: PayPal) -> None:
    for response in (paypal.get(f"{ORDERS}/0X"), paypal.post(f"{ORDERS}/0X/authorize")):
        assert find_issue(response) == (404, "INVALID_RESOURCE_ID")


def test_a_repeated_request_id_returns_the_latest_state_of_the_order(paypal: PayPal) -> None:
    first = paypal.post(ORDERS, make_body(), "a").json()
    paypal.act(first["id"])
    repeated = paypal.post(ORDERS, make_body(), "a").json()
    assert (repeated["id"], repeated["status"]) == (first["id"], "APPROVED")
    assert paypal.post(ORDERS, make_body(), "b").json()["id"] != first["id"]


def test_keys_of_orders_are_stored_for_six_hours(paypal: PayPal) -> None:
    first = paypal.post(ORDERS, make_body(), "a").json()["id"]
    paypal.advance(hours=5.9)
    assert paypal.post(ORDERS, make_body(), "a").json()["id"] == first
    paypal.advance(hours=0.2)
    assert paypal.post(ORDERS, make_body(), "a").json()["id"] != first


def test_all_keys_can_expire_at_once(paypal: PayPal) -> None:
    first = paypal.post(ORDERS, make_body(), "a").json()["id"]
    paypal.client.delete("/_fake/idempotency_keys").raise_for_status()
    assert paypal.post(ORDERS, make_body(), "a").json()["id"] != first


def test_a_server_can_store_no_keys(paypal: PayPal) -> None:
    paypal.keys.forgets = True
    first = paypal.post(ORDERS, make_body(), "a").json()["id"]
    assert paypal.post(ORDERS, make_body(), "a").json()["id"] != first


def test_all_tokens_can_expire_at_once(paypal: PayPal) -> None:
    paypal.client.delete("/_fake/tokens").raise_for_status()
    assert paypal.post(ORDERS, make_body()).status_code == 401


def test_the_memory_of_the_fake_is_bounded(paypal: PayPal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.fakes.paypal.books.MAX_RESOURCES", 1)
    statuses = [paypal.post(ORDERS, make_body()).status_code for _ in range(2)]
    assert statuses == [201, 500]
