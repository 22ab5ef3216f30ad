"""Webhooks and 3-D Secure from outside: the shop on the fake of Stripe, through every process."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from tools.dev.testing import ShopProcess, open_environment, wait_until
from tools.fakes.stripe.app import WEBHOOK_SECRET, sign

PATH = "/v1/payments/webhooks/stripe"
# JSON that is valid, and that no serializer would write like this.
BODY = (
    b'{ "type":"payment_intent.succeeded",\r\n\t"id" : "evt_outside", "data": {"object":'
    b'{"id":"pi_\\u00e9\xc3\xa9", "amount": 1.0, "amount": 1e2}} }\n\n'
)


@dataclass(frozen=True, slots=True)
class Shop:
    client: httpx.Client
    database_url: str

    def count_received(self, reference: str) -> int:
        """Count the webhooks in the inbox that name an intent."""
        with psycopg.connect(self.database_url) as connection:
            query = "SELECT count(*) FROM webhook_inbox WHERE reference = %s"
            row = connection.execute(query, (reference,)).fetchone()
        return row[0] if row else 0

    def post(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        response = self.client.post(path, json=message)
        assert response.is_success, response.text
        return dict(response.json())


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with (
        open_environment() as environment,
        ShopProcess(environment, "--provider=stripe") as process,
    ):
        process.wait_until_ready()
        with process.open_admin() as client:
            url = f"postgresql://shop:secret@127.0.0.1:{environment['POSTGRES_PORT']}/paymentdb"
            yield Shop(client, url)


def test_a_webhook_reaches_the_payment_service_byte_for_byte(shop: Shop) -> None:
    response = shop.client.post(PATH, content=BODY, headers=sign(BODY, WEBHOOK_SECRET))
    assert response.status_code == 204, response.text
    assert shop.count_received("pi_éé") == 1


@pytest.mark.parametrize("headers", [{}, sign(BODY + b" ", WEBHOOK_SECRET)])
def test_a_webhook_without_a_valid_signature_is_a_bad_request(
    shop: Shop, headers: dict[str, str]
) -> None:
    response = shop.client.post(PATH, content=BODY, headers=headers)
    assert (response.status_code, response.json()["reason"]) == (400, "INVALID_SIGNATURE")


def test_an_order_is_confirmed_after_its_customer_has_approved_the_payment(shop: Shop) -> None:
    product = {
        "sku": uuid.uuid4().hex,
        "name": "Paper lantern",
        "price": {"currencyCode": "GBP", "units": "12"},
        "stock": {"available": 10},
    }
    line = {"productId": shop.post("/v1/products", product)["productId"], "quantity": 1}
    order = shop.post(
        "/v1/orders",
        {
            "idempotencyKey": uuid.uuid4().hex,
            "paymentMethod": "pm_card_threeDSecure2Required",
            "lines": [line],
        },
    )
    url = order["paymentAction"]["redirectUrl"]
    approved = httpx.post(url, data={"action": "approve"}, trust_env=False)
    assert approved.status_code == 303
    path = f"/v1/orders/{order['orderId']}"
    wait_until(lambda: shop.client.get(path).json()["state"] == "ORDER_STATE_CONFIRMED")
    wait_until(lambda: shop.count_received(url.rpartition("/")[2]) > 0)
