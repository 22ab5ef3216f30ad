"""The seven flows that the shop began with, from outside: over REST, through every real process.

The processes are those of the runner, or with IMAGES those of containers.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tools.client.auth import Bearer
from tools.client.session import Session
from tools.dev.testing import ShopApi, ShopProcess, open_environment

_NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopApi]:
    if "IMAGES" in os.environ:
        from tools.dev.containers import run_shop  # noqa: PLC0415 - the runner needs none of it.

        archives = map(Path, os.environ["IMAGES"].split())
        with run_shop(archives, tmp_path_factory.mktemp("tls")) as url:
            yield ShopApi(url)
    else:
        with open_environment() as environment, ShopProcess(environment) as process:
            process.wait_until_ready()
            yield process


@pytest.fixture(scope="module")
def admin(shop: ShopApi) -> Iterator[httpx.Client]:
    with shop.open_admin() as client:
        yield client


@pytest.fixture
def customer(shop: ShopApi) -> Iterator[httpx.Client]:
    """Yield the client of a customer who has just registered."""
    with shop.open_customer() as client:
        yield client


def _post(client: httpx.Client, path: str, message: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=message)
    assert response.is_success, response.text
    created: dict[str, Any] = response.json()
    return created


def _read_stream(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.is_success, response.text
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def _create_user(client: httpx.Client) -> dict[str, Any]:
    email = f"Ada.{uuid.uuid4().hex}@Example.com"
    user = {"email": email, "password": "correct horse", "displayName": "Ada"}
    return _post(client, "/v1/users", user)


def _add_product(client: httpx.Client, *, available: int = 100) -> dict[str, Any]:
    product = {
        "sku": uuid.uuid4().hex,
        "name": "Paper lantern",
        "categories": ["lamps"],
        "price": {"currencyCode": "GBP", "units": "12", "nanos": 950_000_000},
        "stock": {"available": available},
        "attributes": {"colour": "white"},
    }
    return _post(client, "/v1/products", product)


def _order(product: dict[str, Any], idempotency_key: str, quantity: int = 2) -> dict[str, Any]:
    return {
        "idempotencyKey": idempotency_key,
        "lines": [{"productId": product["productId"], "quantity": quantity}],
        "paymentMethod": "pm_sandbox",
    }


def test_create_user(admin: httpx.Client) -> None:
    user = _create_user(admin)
    assert uuid.UUID(user["userId"]).version == 7
    assert admin.get(f"/v1/users/{user['userId']}").json() == user
    again = {"email": user["email"].lower(), "password": "correct horse", "displayName": "Eve"}
    response = admin.post("/v1/users", json=again)
    assert response.status_code == httpx.codes.CONFLICT
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_customer_registers_and_logs_in(shop: ShopApi) -> None:
    login = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"}
    with shop.open_client() as nobody:
        registered = nobody.post("/v1/users:register", json={**login, "displayName": "Ada"})
        assert registered.status_code == httpx.codes.NO_CONTENT
    with shop.open_client(Bearer(Session(login["email"], login["password"]))) as customer:
        assert _read_stream(customer.get("/v1/orders")) == [{}]


def test_a_customer_sees_what_is_their_own(
    shop: ShopApi, admin: httpx.Client, customer: httpx.Client
) -> None:
    order = _post(customer, "/v1/orders", _order(_add_product(admin), "own"))
    paths = [f"/v1/orders/{order['orderId']}", f"/v1/users/{order['userId']}"]
    with shop.open_customer() as other, shop.open_client() as nobody:
        for path in paths:
            assert customer.get(path).is_success
            assert admin.get(path).is_success
            assert other.get(path).status_code == httpx.codes.NOT_FOUND
            assert nobody.get(path).status_code == httpx.codes.UNAUTHORIZED
        payment = f"/v1/payments/{order['paymentId']}"
        assert customer.get(payment).status_code == httpx.codes.FORBIDDEN


def test_add_product(admin: httpx.Client) -> None:
    product = _add_product(admin, available=7)
    assert uuid.UUID(product["productId"]).version == 7
    assert product["price"] == {"currencyCode": "GBP", "units": "12", "nanos": 950_000_000}
    assert product["stock"] == {"available": 7, "stocked": 7}
    assert product["attributes"] == {"colour": "white"}


def test_anybody_gets_product(shop: ShopApi, admin: httpx.Client) -> None:
    product = _add_product(admin)
    assert shop.get(f"/v1/products/{product['productId']}").json() == product
    assert shop.get(f"/v1/products/{uuid.uuid4()}").status_code == httpx.codes.NOT_FOUND


def test_create_order(admin: httpx.Client, customer: httpx.Client) -> None:
    product = _add_product(admin, available=5)
    message = _order(product, "first", quantity=3)
    order = _post(customer, "/v1/orders", message)
    assert order["state"] == "ORDER_STATE_CONFIRMED"
    assert order["total"] == {"currencyCode": "GBP", "units": "38", "nanos": 850_000_000}
    assert _post(customer, "/v1/orders", message)["orderId"] == order["orderId"]
    payment = admin.get(f"/v1/payments/{order['paymentId']}").json()
    assert payment["orderId"] == order["orderId"]
    assert payment["amount"] == order["total"]
    response = customer.post("/v1/orders", json=_order(product, "second", quantity=3))
    assert response.status_code == httpx.codes.CONFLICT, "there are only two left"
    stock = admin.get(f"/v1/products/{product['productId']}").json()["stock"]
    assert stock == {"available": 2, "sold": 3, "stocked": 5}


def test_list_products_streaming(admin: httpx.Client) -> None:
    added = [_add_product(admin)["productId"] for _ in range(3)]
    pages = _read_stream(admin.get("/v1/products"))
    listed = [product["productId"] for page in pages for product in page["products"]]
    assert listed[-3:] == added
    some = [page["products"] for page in _read_stream(admin.get("/v1/products?page_size=2"))]
    assert [product["productId"] for page in some for product in page] == listed[:2]


def test_list_products_as_events_goes_on_where_it_broke_off(admin: httpx.Client) -> None:
    for _ in range(3):
        _add_product(admin)
    pages = _read_stream(admin.get("/v1/products"))
    read: list[dict[str, Any]] = []
    headers = {"Accept": "text/event-stream", "Last-Event-ID": ""}
    while headers["Last-Event-ID"] != "$end":
        response = admin.get("/v1/products?page_size=2", headers=headers)
        first, *_ = response.text.split("\n\n")
        fields = dict(line.split(": ", 1) for line in first.splitlines())
        read += json.loads(fields["data"])["products"]
        headers["Last-Event-ID"] = fields["id"]
    assert read == [product for page in pages for product in page["products"]]
    assert admin.get("/v1/products", headers=headers).status_code == httpx.codes.NO_CONTENT


def test_create_orders_streaming(admin: httpx.Client, customer: httpx.Client) -> None:
    product = _add_product(admin, available=25)
    chunks = {
        str(seq): [_order(product, f"{seq}-{index}") for index in range(5)] for seq in (1, 2, 3)
    }
    body = "".join(
        json.dumps({"seq": seq, "orders": orders}) + "\n" for seq, orders in chunks.items()
    )
    responses = _read_stream(customer.post("/v1/orders:stream", content=body, headers=_NDJSON))
    assert [response["seq"] for response in responses] == ["1", "2", "3"]
    keys = [result["idempotencyKey"] for response in responses for result in response["results"]]
    assert keys == [order["idempotencyKey"] for orders in chunks.values() for order in orders]
    results = [result for response in responses for result in response["results"]]
    placed = [result["order"]["state"] for result in results if "order" in result]
    assert placed == ["ORDER_STATE_CONFIRMED"] * 12
    errors = [result["error"]["details"][0]["reason"] for result in results if "error" in result]
    assert errors == ["OUT_OF_STOCK"] * 3, "a bad order gets its own error and the stream goes on"


def test_refund_order(admin: httpx.Client, customer: httpx.Client) -> None:
    product = _add_product(admin, available=5)
    order = _post(customer, "/v1/orders", _order(product, "returned", quantity=3))
    path = f"/v1/orders/{order['orderId']}"
    part = {
        "amount": {"currencyCode": "GBP", "units": "12", "nanos": 950_000_000},
        "restock": [{"productId": product["productId"], "quantity": 1}],
        "idempotencyKey": "return 1",
    }
    refund = _post(admin, f"{path}:refund", part)
    assert refund["state"] == "REFUND_STATE_SUCCEEDED"
    assert _post(admin, f"{path}:refund", part) == refund
    rest = _post(admin, f"{path}:refund", {})
    assert rest["amount"] == {"currencyCode": "GBP", "units": "25", "nanos": 900_000_000}
    pages = _read_stream(admin.get(f"{path}/refunds"))
    assert [listed for page in pages for listed in page["refunds"]] == [refund, rest]
    assert admin.get(path).json()["refundedAmount"] == order["total"]
    stock = admin.get(f"/v1/products/{product['productId']}").json()["stock"]
    assert stock == {"available": 3, "sold": 2, "stocked": 5}
    changed = part | {"amount": order["total"]}
    response = admin.post(f"{path}:refund", json=changed)
    assert response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    response = admin.post(f"{path}:updateStatus", json={"state": "ORDER_STATE_SHIPPED"})
    assert response.status_code == httpx.codes.CONFLICT
    assert response.json()["reason"] == "ORDER_REFUNDED"


def test_user_order_list_streaming(admin: httpx.Client, customer: httpx.Client) -> None:
    user, product = _create_user(admin), _add_product(admin)
    placed = [_post(customer, "/v1/orders", _order(product, f"key {index}")) for index in range(3)]
    _post(admin, "/v1/orders", {**_order(product, "key"), "userId": user["userId"]})
    for client, parameters in ((customer, {}), (admin, {"user_id": placed[0]["userId"]})):
        pages = _read_stream(client.get("/v1/orders", params=parameters))
        listed = [order["orderId"] for page in pages for order in page["orders"]]
        newest_first = [order["orderId"] for order in reversed(placed)]
        assert listed == newest_first, "only the customer's own"


def test_a_created_resource_is_at_its_location(admin: httpx.Client) -> None:
    product = _add_product(admin)
    creations = {
        "/v1/users": {
            "email": f"{uuid.uuid4().hex}@example.com",
            "password": "correct horse",
            "displayName": "Eve",
        },
        "/v1/products": {"sku": uuid.uuid4().hex, "name": "Cup", "price": product["price"]},
        "/v1/orders": _order(product, "only"),
    }
    for path, message in creations.items():
        response = admin.post(path, json=message, headers={"Idempotency-Key": uuid.uuid4().hex})
        assert response.status_code == httpx.codes.CREATED, response.text
        place = response.headers["Location"]
        assert place.startswith(f"{path}/")
        assert admin.get(place).json() == response.json()
        if "password" not in message:  # Such requests are not recorded.
            again = admin.send(response.request)
            assert (again.status_code, again.headers["Location"]) == (httpx.codes.CREATED, place)


@pytest.mark.parametrize(
    ("create", "changes"),
    [(_create_user, {"displayName": "Grace"}), (_add_product, {"name": "Tin lantern"})],
)
def test_change_and_read_under_a_condition(
    admin: httpx.Client,
    create: Callable[[httpx.Client], dict[str, Any]],
    changes: dict[str, str],
) -> None:
    created = create(admin)
    kind = "users" if "userId" in created else "products"
    path = f"/v1/{kind}/{created['userId' if kind == 'users' else 'productId']}"
    tag = admin.get(path).headers["ETag"]
    assert tag == f'"{created["etag"]}"'
    assert admin.get(path, headers={"If-None-Match": tag}).status_code == httpx.codes.NOT_MODIFIED
    changed = admin.patch(path, json=changes, headers={"If-Match": tag})
    assert changed.status_code == httpx.codes.OK, changed.text
    assert changed.json().items() >= changes.items()
    refused = admin.patch(path, json=changes, headers={"If-Match": tag})
    assert refused.status_code == httpx.codes.PRECONDITION_FAILED
    assert refused.json()["reason"] == "ETAG_MISMATCH"
    found = admin.get(path, headers={"If-None-Match": tag})
    assert found.status_code == httpx.codes.OK
    assert found.headers["ETag"] == changed.headers["ETag"] != tag


_ADDRESS = {"lines": ["14 St James's Square"], "city": "London", "regionCode": "GB"}


@pytest.mark.parametrize(
    ("create", "changes"),
    [
        (_create_user, {"addresses": [_ADDRESS]}),
        (_add_product, {"price": {"currencyCode": "GBP", "units": "7"}}),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_change_by_itself_and_within_all_that_was_read(
    admin: httpx.Client,
    create: Callable[[httpx.Client], dict[str, Any]],
    changes: dict[str, Any],
    whole: bool,
) -> None:
    created = create(admin)
    user = "userId" in created
    path = f"/v1/users/{created['userId']}" if user else f"/v1/products/{created['productId']}"
    read = admin.get(path).json()
    assert admin.patch(path, json=read).json() == read
    changed = admin.patch(path, json=read | changes if whole else changes)
    assert changed.status_code == httpx.codes.OK, changed.text
    new = {key: changed.json()[key] for key in ("etag", "updateTime")}
    assert changed.json() == read | changes | new


def test_no_update_changes_the_stock(admin: httpx.Client) -> None:
    product = _add_product(admin, available=5)
    path = f"/v1/products/{product['productId']}"
    refused = admin.patch(path, json={"stock": {"available": 9}})
    assert (refused.status_code, refused.json()["reason"]) == (400, "NOTHING_TO_CHANGE")
    refused = admin.patch(f"{path}?updateMask=stock", json={"stock": {"available": 9}})
    assert (refused.status_code, refused.json()["reason"]) == (400, "INVALID_UPDATE_MASK")
    assert admin.get(path).json() == product


def test_sale_is_seen_by_who_asks_for_what_is_new(
    admin: httpx.Client, customer: httpx.Client
) -> None:
    product = _add_product(admin, available=5)
    path = f"/v1/products/{product['productId']}"
    tag = admin.get(path).headers["ETag"]
    _post(customer, "/v1/orders", _order(product, "one", quantity=2))
    found = admin.get(path, headers={"If-None-Match": tag})
    assert (found.status_code, found.json()["stock"]["available"]) == (httpx.codes.OK, 3)
    # It sold while it was edited, which is no reason to refuse the edit.
    edited = admin.patch(path, json={"name": "Tin lantern"}, headers={"If-Match": tag})
    assert edited.status_code == httpx.codes.OK
