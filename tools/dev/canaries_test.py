"""Cards, passwords, tokens and e-mail addresses stay where they belong, wherever they are sent."""

import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest

from tools.dev.canaries import SECRET_FIELDS, Canaries, Canary, Request, make_requests
from tools.dev.testing import ShopProcess, open_environment, wait_until

DATABASES = ("userdb", "productdb", "orderdb", "paymentdb", "gatewaydb")
PRODUCT = {
    "sku": "LAMP",
    "name": "Lamp",
    "price": {"currencyCode": "EUR", "units": "12"},
    "stock": {"available": 1_000_000},
}
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
 WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
EMAIL = "canary@example.com"
PASSWORDS = ("canary in a mine", "canary in a cage", "canary in a tree")
SETTINGS = {
    "APIGATEWAY_RATE_LIMIT": "",
    "APIGATEWAY_ACCOUNT_RATE_LIMIT": "",
    # Requests say from which addresses they come, as some routes have rate limits of their own.
    "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
}


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with open_environment() as environment:
        yield environment | SETTINGS


@pytest.fixture(scope="module")
def shop(environment: dict[str, str]) -> Iterator[ShopProcess]:
    with ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield shop


def read_logs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the log of each program."""
    logs = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "logs")
    return {f"the log of {path.stem}": path.read_text() for path in logs.glob("*.log")}


def dump_rows(environment: Mapping[str, str]) -> dict[str, str]:
    """Return all rows of each table of all databases as text."""
    login = f"{environment['POSTGRES_USER']}:{environment['POSTGRES_PASSWORD']}"
    server = f"postgresql://{login}@127.0.0.1:{environment['POSTGRES_PORT']}"
    rows = {}
    for database in DATABASES:
        with psycopg.connect(f"{server}/{database}") as connection:
            for (table,) in connection.execute(TABLES).fetchall():
                query = f"SELECT string_agg(t::text, ' ') FROM {table} t".encode()
                rows[f"{database}.{table}"] = connection.execute(query).fetchall()[0][0] or ""
    return rows


def send(client: httpx.Client, request: Request, number: int) -> str:
    """Send a request, and return the headers and the body of its response if it is an error."""
    headers = {"X-Forwarded-For": f"10.0.{number // 256}.{number % 256}", **request.headers}
    with client.stream(
        request.method, request.path, headers=headers, content=request.content
    ) as response:
        # Streams that do not end are not read.
        return f"{response.headers} {response.read().decode()}" if response.is_error else ""


def find_known(admin: httpx.Client, customer: httpx.Client) -> dict[str, str]:
    """Place an order, and return what requests can be about."""
    product = admin.post("/v1/products", json=PRODUCT).json()["productId"]
    lines = [{"productId": product, "quantity": 1_000}]
    order = {"lines": lines, "paymentMethod": "pm_card_visa"}
    placed = customer.post("/v1/orders", json=order).json()
    return {
        "orderId": placed["orderId"],
        "paymentId": placed["paymentId"],
        "paymentMethod": "pm_card_visa",
        "productId": product,
        "provider": "sandbox",
        "userId": placed["userId"],
    }


def may_be_stored(canary: Canary) -> bool:
    """Return whether it was sent as the value of a field that is stored.

    What staff write about products may have digits like those of a card: they may be a GTIN.
    """
    if canary.kind == "card":
        is_field_of_product = canary.place == "field" and "/v1/products" in canary.route
        return is_field_of_product and canary.name != "idempotencyKey"
    if canary.place == "field":
        return canary.name not in SECRET_FIELDS
    return canary.name == "Idempotency-Key"


def test_what_is_sent_anywhere_is_not_logged_told_or_stored_elsewhere(
    shop: ShopProcess, environment: Mapping[str, str]
) -> None:
    canaries = Canaries()
    with shop.open_admin() as admin, shop.open_customer() as customer:
        known = find_known(admin, customer)
        requests = make_requests(shop.get("/openapi.json").json(), canaries, known)
        errors = [send(admin, request, number) for number, request in enumerate(requests)]
    assert len(canaries.made) > 2_000
    told = canaries.find_in("\n".join(errors))
    assert told == [], "\n".join(map(str, told))
    logged = {name: canaries.find_in(text) for name, text in read_logs(environment).items()}
    assert not any(logged.values()), logged
    stored = {name: canaries.find_in(text) for name, text in dump_rows(environment).items()}
    assert any(stored.values())
    wrong = [(name, each) for name in stored for each in stored[name] if not may_be_stored(each)]
    assert wrong == [], "\n".join(map(str, wrong))


def post(client: httpx.Client, path: str, **body: str) -> dict[str, str]:
    response = client.post(path, json=body)
    response.raise_for_status()
    tokens: dict[str, str] = response.json() if response.content else {}
    return tokens


def find_user_id(access_token: str) -> str:
    """Return the subject of a token."""
    user_id: str = jwt.decode(access_token, options={"verify_signature": False})["sub"]
    return user_id


def find_mail_token(environment: Mapping[str, str]) -> str:
    """Wait for the mail with which the user sets a new password, and return its token."""
    directory = Path(environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "mail")
    tokens: list[str] = []

    def has_come() -> bool:
        for path in directory.glob("*.eml"):
            content = message_from_bytes(path.read_bytes(), policy=default).get_content()
            tokens.extend(re.findall(r"/reset-password#token=(\S+)", content))
        return bool(tokens)

    wait_until(has_come)
    return tokens[0]


def test_the_secrets_of_a_user_are_in_no_log_and_no_table(
    shop: ShopProcess, environment: Mapping[str, str]
) -> None:
    login = {"email": EMAIL, "password": PASSWORDS[0]}
    with shop.open_client() as client:
        post(client, "/v1/users:register", **login, displayName="Ada")
        first = post(client, "/v1/sessions:login", **login)
        second = post(client, "/v1/sessions/current:refresh", refreshToken=first["refreshToken"])
        for tokens in (first, second):
            client.headers["Authorization"] = f"Bearer {tokens['accessToken']}"
            assert client.get("/v1/orders").is_success
        path = f"/v1/users/{find_user_id(second['accessToken'])}:changePassword"
        post(client, path, currentPassword=PASSWORDS[0], newPassword=PASSWORDS[1])
        del client.headers["Authorization"]
        post(client, "/v1/sessions/current:logout", refreshToken=second["refreshToken"])
        post(client, "/v1/users:requestPasswordReset", email=EMAIL)
        mailed = find_mail_token(environment)
        post(client, "/v1/users:resetPassword", token=mailed, newPassword=PASSWORDS[2])
    told = [*first.values(), *second.values(), mailed]
    signatures = [token.rsplit(".", 1)[-1] for token in told if len(token) > 40]
    assert len(signatures) == 5
    rows = dump_rows(environment)
    for name, text in {**read_logs(environment), **rows}.items():
        for secret in (*PASSWORDS, *signatures):
            assert secret not in text, name
            assert secret.encode().hex() not in text, name
    assert [name for name, text in rows.items() if EMAIL in text] == ["userdb.public.users"]
