"""The running shop, called as its OpenAPI document describes, and with invalid requests."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD, ShopProcess, open_environment, wait_until
from tools.testing.fuzzing import fuzz

# Streams that do not end, and what this shop has no use for: the sandbox is its only provider, and
# there is no outside identity provider.
EXCLUDED = (
    "OrderService_WatchOrder",
    "OrderService_WatchOrders",
    "PaymentService_HandleWebhook",
    "UserService_LoginWithIdToken",
)
FATAL = ("UserService_DeleteUser", "UserService_SetRole")
"""The operations that would end the session of all others."""
LIMITED = {"UserService_ChangeEmail", "UserService_ChangePassword"}
"""The operations with which a user may try few passwords, perhaps none of them the right one."""
RIVALS = {
    "OrderService_CancelOrder": "pm_sandbox_action",
    "OrderService_RefundOrder": "pm_card_visa",
    "OrderService_UpdateOrderStatus": "pm_card_visa",
}
"""The operations of which one keeps the others from succeeding: each has orders of its own, which
were placed with this payment method."""
COUNT, DECLINED = 20, 5
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def shop() -> Iterator[ShopProcess]:
    with open_environment() as environment, ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield shop


@pytest.fixture(scope="module")
def client(shop: ShopProcess) -> Iterator[httpx.Client]:
    with shop.open_admin() as client:
        yield client


def log_in(client: httpx.Client, email: str, password: str) -> dict[str, Any]:
    return post(client, "/v1/sessions:login", {"email": email, "password": password})


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    created: dict[str, Any] = client.post(path, json=body).json()
    return created


def ask_for_reset(client: httpx.Client, email: str, address: str) -> None:
    """Ask for the mail; each client may do that a few times, and so each is another one."""
    headers = {"X-Forwarded-For": address}
    path = "/v1/users:requestPasswordReset"
    client.post(path, json={"email": email}, headers=headers).raise_for_status()


def read_mails(shop: ShopProcess, count: int) -> str:
    """Return the text of the mails that users got, once there are so many."""
    directory = shop.directory / "mail"
    wait_until(lambda: len(list(directory.glob("*.eml"))) == count)
    return "".join(path.read_text(encoding="utf-8") for path in directory.glob("*.eml"))


def trade(shop: ShopProcess, client: httpx.Client) -> dict[str, Sequence[str | int]]:
    """Place orders, of which some are declined, and return what calls can be about."""
    users, products, orders, payments = [], [], [], []
    refresh_tokens = []
    for number in range(COUNT):
        email = f"{number}@example.com"
        user = {"email": email, "password": PASSWORD, "displayName": "Ada"}
        users.append(post(client, "/v1/users", user)["userId"])
        refresh_tokens.append(log_in(client, email, PASSWORD)["refreshToken"])
        ask_for_reset(client, email, address=f"10.0.0.{number}")
        product = {
            "sku": f"TRADED-{number}",
            "name": "Lamp",
            "price": {"currencyCode": "GBP", "units": "7"},
            "stock": {"available": 1_000_000_000},
        }
        products.append(post(client, "/v1/products", product)["productId"])
        lines = [{"productId": products[-1], "quantity": 1}]
        order = {"userId": users[-1], "lines": lines}
        for method in RIVALS.values():
            placed = post(client, "/v1/orders", {**order, "paymentMethod": method})
            orders.append(placed["orderId"])
            if "paymentId" in placed:
                payments.append(placed["paymentId"])
    for _ in range(DECLINED):
        declined = post(client, "/v1/orders", {**order, "paymentMethod": "pm_card_declined"})
        orders.append(declined["metadata"]["order_id"])
    return {
        "body.amount.currencyCode": ["GBP"],
        "body.amount.nanos": [0],
        "body.amount.units": [1],
        "body.currentPassword": [ADMIN_PASSWORD],
        "body.email": [
            f"{number}@example.{domain}" for number in range(COUNT) for domain in ("com", "org")
        ],
        "body.newPassword": [ADMIN_PASSWORD],
        "body.password": [PASSWORD, ADMIN_PASSWORD],
        "body.refreshToken": refresh_tokens,
        "body.token": re.findall(r"#token=([\w-]+)", read_mails(shop, 2 * COUNT)),
        "body.userId": users,
        "body.lines[*].productId": products,
        "body.lines[*].quantity": [1, 2],
        "body.paymentMethod": ["pm_card_visa"],
        "body.state": ["ORDER_STATE_SHIPPED"],
        "path.orderId": orders,
        "path.paymentId": payments,
        "path.productId": products,
        "path.userId": [*users[:5], find_admin(client)],
    }


def find_admin(client: httpx.Client) -> str:
    """Return the id of the first admin, who is the first user."""
    first: str = client.get("/v1/users").json()["users"][0]["userId"]
    return first


def test_every_operation_responds_as_the_document_says(
    shop: ShopProcess, client: httpx.Client
) -> None:
    known = trade(shop, client)
    token = log_in(client, ADMIN_EMAIL, ADMIN_PASSWORD)["accessToken"]
    options = [f"--exclude-operation-id={name}" for name in EXCLUDED]
    options.append(f"--header=Authorization: Bearer {token}")
    spared = {name: [find_admin(client)] for name in FATAL}
    for number, name in enumerate(RIVALS):
        orders = enumerate(map(str, known["path.orderId"]))
        spared[name] = [order for index, order in orders if index % len(RIVALS) != number]
    findings = fuzz(shop.url, *options, examples=25, known=known, spared=spared)
    assert findings.failures == 0, findings.output
    assert findings.unsuccessful <= LIMITED, findings.output
