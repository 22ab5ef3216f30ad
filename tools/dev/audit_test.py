"""The audit log from outside: what an admin does over REST is there for admins, and nobody else."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tools.dev.testing import ADMIN_EMAIL, ShopProcess, open_environment

LOGS = ("users", "products", "orders")
PASSWORD = "canary horse battery"
FORGED = {"X-Forwarded-For": "198.51.100.7"}


@pytest.fixture(scope="module")
def shop() -> Iterator[ShopProcess]:
    no_proxies = {"APIGATEWAY_TRUSTED_PROXIES": ""}
    with open_environment() as environment, ShopProcess(environment | no_proxies) as shop:
        shop.wait_until_ready()
        yield shop


@pytest.fixture(scope="module")
def admin(shop: ShopProcess) -> Iterator[httpx.Client]:
    with shop.open_admin() as client:
        yield client


def read_log(admin: httpx.Client, resources: str) -> list[dict[str, Any]]:
    """Return the events of a log, newest first."""
    response = admin.get(f"/v1/audit/{resources}")
    assert response.is_success, response.text
    pages = [json.loads(line) for line in response.text.splitlines()]
    return [event for page in pages for event in page.get("auditEvents", [])]


def test_changes_are_recorded_as_they_were_answered(admin: httpx.Client) -> None:
    user = {"email": "ada@example.com", "password": PASSWORD, "displayName": "Ada"}
    price = {"currencyCode": "GBP", "units": "12", "nanos": 950_000_000}
    attributes = {"watts": 60, "tags": ["new", None]}
    product = {"sku": "A", "name": "Lamp", "price": price, "attributes": attributes}
    product["stock"] = {"available": 5}
    made = {}
    for resources, message in (("users", user), ("products", product)):
        response = admin.post(f"/v1/{resources}", json=message, headers=FORGED)
        assert response.is_success, response.text
        made[resources] = response.json()
        personal = {"email": "[redacted]", "displayName": "[redacted]"}
        recorded = made[resources] | (personal if resources == "users" else {})
        (event,) = read_log(admin, resources)
        assert event["after"] == recorded
        assert event["role"] == "admin"
        assert event["clientAddress"] == "127.0.0.1"
        assert event["requestId"] == response.headers["X-Request-Id"]
    line = {"productId": made["products"]["productId"], "quantity": 1}
    order = {"userId": made["users"]["userId"], "lines": [line], "paymentMethod": "pm_card_visa"}
    placed = admin.post("/v1/orders", json=order, headers={"Idempotency-Key": "1"}).json()
    (event,) = read_log(admin, "orders")
    assert event["resource"] == f"orders/{placed['orderId']}"
    assert event["after"]["userId"] == made["users"]["userId"]
    everything = "".join(admin.get(f"/v1/audit/{resources}").text for resources in LOGS)
    assert PASSWORD not in everything
    assert user["email"] not in everything
    accounts = admin.get("/v1/users").json()["users"]
    (admin_id,) = {each["userId"] for each in accounts if each["email"] == ADMIN_EMAIL}
    assert {event["userId"] for each in LOGS for event in read_log(admin, each)} == {admin_id}


@pytest.mark.parametrize("resources", LOGS)
def test_only_admins_read_the_audit_log(shop: ShopProcess, resources: str) -> None:
    with shop.open_customer() as customer, shop.open_client() as nobody:
        path = f"/v1/audit/{resources}"
        assert customer.get(path).status_code == httpx.codes.FORBIDDEN
        assert nobody.get(path).status_code == httpx.codes.UNAUTHORIZED
