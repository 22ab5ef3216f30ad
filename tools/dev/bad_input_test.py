"""Bad input from outside: each gets its status as problem+json, and nothing is written."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tools.dev.testing import ShopProcess, open_environment

NOBODY = "0199aaaa-0000-7000-8000-000000000000"
USER = {"email": "ada@example.com", "password": "correct horse", "displayName": "Ada"}
PRICE = {"currencyCode": "GBP", "units": "1"}
PRODUCT = {"sku": "LAMP", "name": "Lamp", "price": PRICE, "stock": {"available": 5}}
DEEP_TOKEN = "W1tb" * 667
"""In Base64, 2,001 opening brackets."""
TABLES = {
    "userdb": ["users", "sessions", "refresh_tokens"],
    "productdb": ["products", "stock", "stock_adjustments", "reservations"],
    "orderdb": ["orders", "order_lines", "order_events"],
    "paymentdb": ["payments", "transactions"],
    "gatewaydb": ["idempotency_records"],
}


class Shop:
    """A shop that has one user and one product, and its admin."""

    def __init__(self, client: httpx.Client, database_url: str) -> None:
        self.client = client
        self._database_url = database_url
        self.user_id = self._create("/v1/users", USER)["userId"]
        self.product_id = self._create("/v1/products", PRODUCT)["productId"]

    def order(self, **changes: object) -> dict[str, Any]:
        lines = [{"productId": self.product_id, "quantity": 1}]
        order = {"userId": self.user_id, "lines": lines, "paymentMethod": "pm_card_visa"}
        return {**order, **changes}

    def rows(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for database, tables in TABLES.items():
            with psycopg.connect(f"{self._database_url}/{database}") as connection:
                for table in tables:
                    query = f"SELECT count(*) FROM {table}".encode()
                    counts[table] = connection.execute(query).fetchall()[0][0]
        return counts

    def _create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.client.post(path, json=body)
        assert response.is_success, response.text
        created: dict[str, Any] = response.json()
        return created


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_environment() as environment, ShopProcess(environment) as process:
        process.wait_until_ready()
        login = f"{environment['POSTGRES_USER']}:{environment['POSTGRES_PASSWORD']}"
        url = f"postgresql://{login}@127.0.0.1:{environment['POSTGRES_PORT']}"
        with process.open_admin() as client:
            yield Shop(client, url)


def check_refused(shop: Shop, request: httpx.Request, status: int, reason: str) -> None:
    before = shop.rows()
    response = shop.client.send(request)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert "Traceback" not in response.text
    assert shop.rows() == before


def post(shop: Shop, path: str, body: object) -> httpx.Request:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return shop.client.build_request("POST", path, content=content, headers=headers)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        pytest.param(b'{"email": ', 400, "INVALID_JSON", id="malformed JSON"),
        pytest.param(b"[" * 100_000, 400, "INVALID_JSON", id="100,000-deep JSON"),
        pytest.param(b'{"email":"a@b","email":"c@d"}', 400, "INVALID_JSON", id="duplicate key"),
        pytest.param({**USER, "is_admin": True}, 400, "UNKNOWN_FIELD", id="unknown field"),
        pytest.param({**USER, "email": 5}, 400, "INVALID_FIELD", id="wrong type"),
        pytest.param({**USER, "email": "a\x00@b"}, 400, "INVALID_FIELD", id="NUL"),
        pytest.param(b'{"email":"\\ud800@b"}', 400, "INVALID_FIELD", id="lone surrogate"),
        pytest.param({**USER, "email": "ADA@Example.com"}, 409, "EMAIL_TAKEN", id="taken email"),
        pytest.param({**USER, "email": "nobody"}, 422, "INVALID_FIELD", id="no email"),
        pytest.param({**USER, "email": "a@b"}, 422, "INVALID_FIELD", id="email without a dot"),
        pytest.param({**USER, "email": "a@c..d"}, 422, "INVALID_FIELD", id="email with two dots"),
        pytest.param({**USER, "displayName": " "}, 422, "INVALID_FIELD", id="name of a space"),
        pytest.param({**USER, "displayName": "A\x1b"}, 422, "INVALID_FIELD", id="name with ESC"),
        pytest.param(b'{"email":"' + b"a" * 2**20 + b'"}', 413, "TOO_LARGE", id="oversize body"),
    ],
)
def test_a_bad_user_is_refused(shop: Shop, body: object, status: int, reason: str) -> None:
    check_refused(shop, post(shop, "/v1/users", body), status, reason)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        pytest.param({}, 409, "SKU_TAKEN", id="taken sku"),
        pytest.param({"stock": {"available": True}}, 400, "INVALID_FIELD", id="bool for integer"),
        pytest.param({"stock": {"available": 1.5}}, 400, "INVALID_FIELD", id="float for integer"),
        pytest.param({"stock": {"available": 2**31}}, 422, "OUT_OF_RANGE", id="2^31"),
        pytest.param({"stock": {"available": -1}}, 422, "INVALID_FIELD", id="negative stock"),
        pytest.param({"sku": " "}, 422, "INVALID_FIELD", id="sku of a space"),
        pytest.param({"sku": "\u200b"}, 422, "INVALID_FIELD", id="invisible sku"),
        pytest.param(
            {"price": {**PRICE, "currencyCode": "GBX"}}, 422, "INVALID_FIELD", id="bad currency"
        ),
        pytest.param(
            {"price": {**PRICE, "nanos": 1}}, 422, "INVALID_FIELD", id="price finer than a penny"
        ),
    ],
)
def test_a_bad_product_is_refused(
    shop: Shop, changes: dict[str, object], status: int, reason: str
) -> None:
    body = {**PRODUCT, "sku": "LAMP" if not changes else uuid.uuid4().hex, **changes}
    check_refused(shop, post(shop, "/v1/products", body), status, reason)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_what_is_no_json_number_is_refused(shop: Shop, number: str) -> None:
    body = json.dumps({**PRODUCT, "sku": "N", "attributes": {"a": "here"}})
    request = post(shop, "/v1/products", body.replace('"here"', number).encode())
    reason = "INVALID_FIELD" if number == "1e999" else "INVALID_JSON"
    check_refused(shop, request, 400, reason)


@pytest.mark.parametrize("quantity", [0, -1, 2**31])
def test_a_bad_quantity_is_refused(shop: Shop, quantity: int) -> None:
    lines = [{"productId": shop.product_id, "quantity": quantity}]
    reason = "OUT_OF_RANGE" if quantity == 2**31 else "INVALID_FIELD"
    check_refused(shop, post(shop, "/v1/orders", shop.order(lines=lines)), 422, reason)


@pytest.mark.parametrize("count", [0, 2])
def test_no_line_and_the_same_product_twice_are_refused(shop: Shop, count: int) -> None:
    lines = [{"productId": shop.product_id, "quantity": 1}] * count
    check_refused(shop, post(shop, "/v1/orders", shop.order(lines=lines)), 422, "INVALID_FIELD")


def test_a_price_of_the_clients_own_is_refused(shop: Shop) -> None:
    lines = [{"productId": shop.product_id, "quantity": 1, "unitPrice": PRICE}]
    check_refused(shop, post(shop, "/v1/orders", shop.order(lines=lines)), 400, "UNKNOWN_FIELD")


def test_an_order_of_nobody_is_refused(shop: Shop) -> None:
    body = shop.order(userId=NOBODY)
    check_refused(shop, post(shop, "/v1/orders", body), 404, "USER_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        pytest.param("GET", "/v1/products?nope=1", 400, "UNKNOWN_PARAMETER", id="parameter"),
        pytest.param("GET", "/v1/products?pageSize=x", 400, "INVALID_FIELD", id="no number"),
        pytest.param("GET", "/v1/products?pageToken=abc", 400, "INVALID_PAGE_TOKEN", id="token"),
        *(
            pytest.param("GET", f"{path}{DEEP_TOKEN}", 400, "INVALID_PAGE_TOKEN", id=f"deep {path}")
            for path in (
                "/v1/products?pageToken=",
                "/v1/users?pageToken=",
                "/v1/transactions?pageToken=",
                f"/v1/orders?userId={NOBODY}&pageToken=",
            )
        ),
        *(
            pytest.param("GET", f"/v1/products?filter={text}", 400, "INVALID_FILTER", id=text)
            for text in ("price=1e99999999999999999999", "price=0e2000000000")
        ),
        pytest.param("GET", "/v1/users/xyz", 400, "INVALID_ID", id="bad UUID"),
        pytest.param("GET", f"/v1/users/{NOBODY}", 404, "USER_NOT_FOUND", id="no user"),
        pytest.param("GET", f"/v1/products/{NOBODY}", 404, "PRODUCT_NOT_FOUND", id="no product"),
        pytest.param("GET", f"/v1/orders/{NOBODY}", 404, "ORDER_NOT_FOUND", id="no order"),
        pytest.param("GET", f"/v1/payments/{NOBODY}", 404, "PAYMENT_NOT_FOUND", id="no payment"),
        pytest.param("DELETE", f"/v1/users/{NOBODY}", 404, "USER_NOT_FOUND", id="delete nobody"),
        pytest.param("GET", "/v1/nowhere", 404, "UNKNOWN_PATH", id="unknown path"),
        pytest.param("PUT", "/v1/products", 405, "METHOD_NOT_ALLOWED", id="wrong method"),
    ],
)
def test_a_bad_request_line_is_refused(
    shop: Shop, method: str, path: str, status: int, reason: str
) -> None:
    check_refused(shop, shop.client.build_request(method, path), status, reason)


def test_another_content_type_is_refused(shop: Shop) -> None:
    headers = {"Content-Type": "text/plain"}
    request = shop.client.build_request("POST", "/v1/users", content=b"x", headers=headers)
    check_refused(shop, request, 415, "UNSUPPORTED_MEDIA_TYPE")
