"""The fake of Stripe for tests: a fixture that serves it, and a client of its API.

A test module gets the fixture `stripe` with

    pytest_plugins = ("tools.fakes.stripe.testing",)

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tools.fakes.serving import serve_in_thread
from tools.fakes.stripe.app import API_KEY, Fake, create_app

TIMEOUT_SECONDS = 30.0


class Stripe:
    """A fake that is served, and a client with the secret key."""

    def __init__(self, fake: Fake, url: str, client: httpx.Client) -> None:
        self.faults = fake.faults
        self.keys = fake.keys
        self.broken_keys = fake.broken_keys
        self.url = url
        self.client = client

    def list_all(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Return all objects of a list of the API, newest first, page after page."""
        found: list[dict[str, Any]] = []
        while True:
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = self.client.get(path, params={"limit": "100", **parameters, **after}).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def act(self, intent_id: str, action: str = "approve") -> httpx.Response:
        """Submit the page of the customer: approve or `fail` the action of an intent."""
        return self.client.post(f"/_fake/actions/{intent_id}", data={"action": action})

    def settle_refund(self, refund_id: str, status: str) -> httpx.Response:
        """Let a refund succeed or fail later."""
        return self.client.post(f"/_fake/refunds/{refund_id}", data={"status": status})


@pytest.fixture
def stripe() -> Iterator[Stripe]:
    """Serve a fake of its own to a test."""
    fake = Fake()
    with (
        serve_in_thread(create_app(fake)) as url,
        httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {API_KEY}"},
            timeout=TIMEOUT_SECONDS,
        ) as client,
    ):
        yield Stripe(fake, url, client)
