"""The books of payment providers that are reached over HTTP, as rows to compare.

They are read by plain requests and not by the adapters of the payment service, whose mistakes they
are to find. The rows are sorted on disk: memory does not grow with their number.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Protocol

import httpx

from chassis.money import MINOR_DIGITS
from services.payment.settings import PaymentSettings

PAGE_ITEMS = 100
TIMEOUT_SECONDS = 10.0

Json = dict[str, Any]
Entry = tuple[str, str, int]
"""A reference of an intent, what was done (charged, refunded or held), and the minor units."""

_ROWS = """
SELECT reference, printf('%d charged, %d refunded, %d held',
    sum(minor) FILTER (WHERE kind = 'charged'),
    coalesce(sum(minor) FILTER (WHERE kind = 'refunded'), 0),
    coalesce(sum(minor) FILTER (WHERE kind = 'held'), 0))
FROM entries GROUP BY reference ORDER BY reference
"""


class Books(Protocol):
    """What a provider has charged, refunded and held."""

    def read(self, references: Iterable[str]) -> Iterator[Entry]:
        """Yield entries, of the shop's intents at least, in any order.

        Raises:
            httpx.HTTPError: the provider cannot be read.
        """


class StripeBooks:
    """All intents and refunds of an account (https://docs.stripe.com/api/pagination)."""

    def __init__(self, config: PaymentSettings) -> None:
        self._url = config.paymentservice_stripe_api_url
        self._login = (config.paymentservice_stripe_api_key.get_secret_value(), "")

    def read(self, references: Iterable[str]) -> Iterator[Entry]:
        """Yield entries of every intent, whether the shop knows it or not."""
        with _open_client(self._url) as client:
            for intent in self._list(client, "/v1/payment_intents"):
                yield intent["id"], "charged", intent["amount_received"]
                yield intent["id"], "held", intent["amount_capturable"]
            for refund in self._list(client, "/v1/refunds"):
                if refund["status"] == "succeeded":
                    yield refund["payment_intent"], "refunded", refund["amount"]

    def _list(self, client: httpx.Client, path: str) -> Iterator[Json]:
        parameters: dict[str, str | int] = {"limit": PAGE_ITEMS}
        while True:
            response = client.get(path, params=parameters, auth=self._login)
            page = response.raise_for_status().json()
            yield from page["data"]
            if not page["has_more"]:
                return
            parameters["starting_after"] = page["data"][-1]["id"]


class PayPalBooks:
    """The orders of the shop (https://developer.paypal.com/docs/api/orders/v2/#orders_get)."""

    def __init__(self, config: PaymentSettings) -> None:
        self._url = config.paymentservice_paypal_api_url
        self._login = (
            config.paymentservice_paypal_client_id,
            config.paymentservice_paypal_client_secret.get_secret_value(),
        )

    def read(self, references: Iterable[str]) -> Iterator[Entry]:
        """Yield entries of the orders with these ids: PayPal does not list the others."""
        with _open_client(self._url) as client:
            grant = {"grant_type": "client_credentials"}
            granted = client.post("/v1/oauth2/token", auth=self._login, data=grant)
            token = granted.raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            for reference in references:
                response = client.get(f"/v2/checkout/orders/{reference}", headers=headers)
                if response.status_code != httpx.codes.NOT_FOUND:
                    yield from _read_order(response.raise_for_status().json())


def _open_client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False)


def _read_order(order: Json) -> Iterator[Entry]:
    for unit in order["purchase_units"]:
        payments = unit.get("payments", {})
        for capture in payments.get("captures", ()):
            if capture["status"] in ("COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"):
                yield order["id"], "charged", _to_minor(capture["amount"])
        for refund in payments.get("refunds", ()):
            if refund["status"] == "COMPLETED":
                yield order["id"], "refunded", _to_minor(refund["amount"])
        for authorization in payments.get("authorizations", ()):
            if authorization["status"] in ("CREATED", "PARTIALLY_CAPTURED", "PENDING"):
                yield order["id"], "held", _to_minor(authorization["amount"])


def _to_minor(amount: Json) -> int:
    return int(Decimal(amount["value"]).scaleb(MINOR_DIGITS[amount["currency_code"]]))


def open_books(config: PaymentSettings) -> dict[str, Books]:
    """Return the books of the providers that are on, by their names."""
    known: dict[str, Callable[[PaymentSettings], Books]] = {
        "stripe": StripeBooks,
        "paypal": PayPalBooks,
    }
    return {name: known[name](config) for name in config.paymentservice_providers if name in known}


def sorted_rows(entries: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """Sum the entries of each intent up; yield those that have any, sorted by reference."""
    # A database without a name is a temporary file, which goes with the connection.
    database = sqlite3.connect("")
    try:
        database.execute("CREATE TABLE entries (reference TEXT, kind TEXT, minor INTEGER)")
        moved = (entry for entry in entries if entry[2] > 0)
        database.executemany("INSERT INTO entries VALUES (?, ?, ?)", moved)
        yield from database.execute(_ROWS)
    finally:
        database.close()
