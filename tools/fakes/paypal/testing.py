"""The fake of PayPal for tests: a fixture that serves it, and a client of its API.

A test module gets the fixture `paypal` with

    pytest_plugins = ("tools.fakes.paypal.testing",)

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tools.fakes.paypal.app import CLIENT_ID, CLIENT_SECRET, Fake, create_app
from tools.fakes.serving import serve_in_thread

TIMEOUT_SECONDS = 30.0


class PayPal:
    """A fake that is served, and a client with an access token."""

    def __init__(self, fake: Fake, url: str, client: httpx.Client) -> None:
        self.faults = fake.faults
        self.keys = fake.keys
        self.url = url
        self.client = client
        self.renew_token()

    def renew_token(self) -> None:
        """Get an access token."""
        response = self.client.post(
            "/v1/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(CLIENT_ID, CLIENT_SECRET),
        )
        self._token = response.raise_for_status().json()["access_token"]

    def make_authorization(self) -> dict[str, str]:
        """Return the header with the access token."""
        return {"authorization": f"Bearer {self._token}"}

    def get(self, path: str) -> httpx.Response:
        """Call the API."""
        return self.client.get(path, headers=self.make_authorization())

    def post(
        self, path: str, body: object = None, request_id: str = "", *, minimal: bool = False
    ) -> httpx.Response:
        """Call the API, with the complete resource in the response unless it is `minimal`."""
        headers = self.make_authorization()
        if not minimal:
            headers["prefer"] = "return=representation"
        if request_id:
            headers["paypal-request-id"] = request_id
        return self.client.post(path, json=body if body is not None else {}, headers=headers)

    def act(self, order_id: str, action: str = "approve", **fields: str) -> httpx.Response:
        """Submit the page of the payer."""
        form = {"action": action, **fields}
        return self.client.post("/checkoutnow", params={"token": order_id}, data=form)

    def advance(self, *, hours: float) -> None:
        """Let time pass."""
        body = {"advance_seconds": hours * 3600}
        self.client.post("/_fake/clock", json=body).raise_for_status()

    def read_books(self) -> list[dict[str, Any]]:
        """Return what was captured and refunded, by order."""
        books: list[dict[str, Any]] = self.client.get("/_fake/books").raise_for_status().json()
        return books


@pytest.fixture
def paypal() -> Iterator[PayPal]:
    """Serve a fake of its own to a test."""
    fake = Fake()
    with (
        serve_in_thread(create_app(fake)) as url,
        httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client,
    ):
        yield PayPal(fake, url, client)
