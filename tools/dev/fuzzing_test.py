"""The running shop, called as its OpenAPI document describes, and with invalid requests."""

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tools.dev.testing import ShopProcess, open_environment
from tools.testing.fuzzing import fuzz

# Streams that do not end, and RPCs that return UNIMPLEMENTED, which is 501: the document knows what
# the shop does not do yet.
EXCLUDED = (
    "OrderService_WatchOrder",
    "OrderService_WatchOrders",
    "PaymentService_HandleWebhook",
    "UserService_Login",
    "UserService_Logout",
    "UserService_RefreshToken",
)
COUNT = 20


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with open_environment() as environment, ShopProcess(environment) as shop:
        shop.wait_until_ready()
        with httpx.Client(base_url=shop.url, timeout=30, trust_env=False) as client:
            yield client


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    created: dict[str, Any] = client.post(path, json=body).json()
    return created


def trade(client: httpx.Client) -> dict[str, Sequence[str | int]]:
    """Place orders, of which half are declined, and return what calls can be about."""
    users, products, orders, payments = [], [], [], []
    for number in range(COUNT):
        email = f"{number}@example.com"
        user = {"email": email, "password": "correct horse", "displayName": "Ada"}
        users.append(post(client, "/v1/users", user)["userId"])
        product = {
            "sku": f"TRADED-{number}",
            "name": "Lamp",
            "price": {"currencyCode": "GBP", "units": "7"},
            "stock": {"available": 1_000_000_000},
        }
        products.append(post(client, "/v1/products", product)["productId"])
        lines = [{"productId": products[-1], "quantity": 1}]
        order = {"userId": users[-1], "lines": lines, "paymentMethod": "pm_card_visa"}
        placed = post(client, "/v1/orders", order)
        payments.append(placed["paymentId"])
        declined = post(client, "/v1/orders", {**order, "paymentMethod": "pm_card_declined"})
        orders += [placed["orderId"], declined["metadata"]["order_id"]]
    return {
        "body.currentPassword": ["correct horse"],
        "body.email": [f"{number}@example.org" for number in range(COUNT)],
        "body.newPassword": ["correct horse"],
        "body.userId": users,
        "body.lines[*].productId": products,
        "body.lines[*].quantity": [1, 2],
        "body.paymentMethod": ["pm_card_visa"],
        "body.state": ["ORDER_STATE_SHIPPED"],
        "path.orderId": orders,
        "path.paymentId": payments,
        "path.productId": products,
        "path.userId": users,
    }


def test_every_operation_responds_as_the_document_says(client: httpx.Client) -> None:
    excluded = [f"--exclude-operation-id={name}" for name in EXCLUDED]
    findings = fuzz(str(client.base_url), *excluded, examples=25, known=trade(client))
    assert findings.failures == 0, findings.output
    assert findings.unsuccessful == set(), findings.output
