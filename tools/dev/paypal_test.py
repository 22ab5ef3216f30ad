"""PayPal from outside: the shop on the fake of PayPal, through every process."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tools.dev.testing import ShopProcess, open_environment, wait_until


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment


@pytest.fixture(scope="module")
def client(environment: dict[str, str]) -> Iterator[httpx.Client]:
    with ShopProcess(environment, "--provider=paypal") as process:
        process.wait_until_ready()
        with process.open_admin() as client:
            yield client


def post(client: httpx.Client, path: str, message: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=message)
    assert response.is_success, response.text
    return dict(response.json())


def place_order(client: httpx.Client) -> tuple[str, httpx.URL]:
    """Place an order; return its path, and the page on which it is to be paid."""
    product = {
        "sku": uuid.uuid4().hex,
        "name": "Paper lantern",
        "price": {"currencyCode": "GBP", "units": "12"},
        "stock": {"available": 10},
    }
    line = {"productId": post(client, "/v1/products", product)["productId"], "quantity": 1}
    order = post(
        client,
        "/v1/orders",
        {
            "idempotencyKey": uuid.uuid4().hex,
            "paymentMethod": "paypal:checkout",
            "lines": [line],
        },
    )
    return f"/v1/orders/{order['orderId']}", httpx.URL(order["paymentAction"]["redirectUrl"])


def pay(page: httpx.URL, instrument: str = "accepted") -> None:
    """Approve a payment as its customer."""
    form = {"action": "approve", "instrument": instrument}
    response = httpx.post(page, data=form, trust_env=False)
    assert response.status_code == 303


def read_books(page: httpx.URL) -> dict[str, Any]:
    """Return what PayPal has held and captured for an order."""
    books = httpx.get(page.join("/_fake/books"), trust_env=False).json()
    return next(order for order in books if order["id"] == page.params["token"])


def read_webhooks(environment: dict[str, str], page: httpx.URL) -> set[str]:
    """Return the types of the webhooks that were verified, and are about an order at PayPal."""
    url = f"postgresql://shop:secret@127.0.0.1:{environment['POSTGRES_PORT']}/paymentdb"
    query = "SELECT type FROM webhook_inbox WHERE reference = %s"
    with psycopg.connect(url) as connection:
        rows = connection.execute(query, (page.params["token"],)).fetchall()
    return {row[0] for row in rows}


def wait_for_state(client: httpx.Client, path: str, state: str) -> None:
    wait_until(lambda: client.get(path).json()["state"] == f"ORDER_STATE_{state}")


def test_an_order_is_confirmed_after_its_customer_has_paid_and_can_be_refunded(
    client: httpx.Client, environment: dict[str, str]
) -> None:
    path, page = place_order(client)
    assert read_books(page)["captures"] == []
    pay(page)
    wait_for_state(client, path, "CONFIRMED")
    assert read_books(page)["captures"] == ["12.00"]
    refund = {"amount": {"currencyCode": "GBP", "units": "5"}, "idempotencyKey": "return-1"}
    first = post(client, f"{path}:refund", refund)
    assert post(client, f"{path}:refund", refund) == first
    assert first["state"] == "REFUND_STATE_SUCCEEDED"
    assert [each["value"] for each in read_books(page)["refunds"]] == ["5.00"]
    expected = {
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
    }
    wait_until(lambda: read_webhooks(environment, page) == expected)


def test_a_customer_whose_instrument_is_declined_can_pay_with_another(
    client: httpx.Client,
) -> None:
    path, page = place_order(client)
    pay(page, "declined")
    wait_until(lambda: read_books(page)["status"] == "PAYER_ACTION_REQUIRED")
    pay(page)
    wait_for_state(client, path, "CONFIRMED")
    assert read_books(page)["captures"] == ["12.00"]


def test_a_cancelled_order_that_is_paid_later_is_never_charged(client: httpx.Client) -> None:
    path, page = place_order(client)
    post(client, f"{path}:cancel", {})
    wait_for_state(client, path, "CANCELLED")
    pay(page)
    order = read_books(page)
    assert (order["status"], order["held"], order["captures"]) == ("APPROVED", "0", [])
