"""The fake of Stripe for tests: a fixture that runs it in a thread, and what tests do with it.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tools.fakes.serving import serve_in_thread
from tools.fakes.stripe.app import Fake, create_app

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunningFake:
    """The fake, where it listens, and a client of its own that has the secret key."""

    fake: Fake
    url: str
    client: httpx.Client

    def list_all(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Return all objects of a list of the API, newest first, page after page."""
        found: list[dict[str, Any]] = []
        while True:
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = self.client.get(path, params={"limit": "100", **parameters, **after}).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def complete_action(self, intent_id: str, action: str = "approve") -> httpx.Response:
        """Approve or `fail` the action of an intent, as its customer does."""
        return self.client.post(f"/_fake/actions/{intent_id}", data={"action": action})


@pytest.fixture
def stripe_fake() -> Iterator[RunningFake]:
    """Run the fake for the test."""
    fake = Fake()
    with (
        serve_in_thread(create_app(fake)) as url,
        httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {fake.api_key}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        ) as client,
    ):
        yield RunningFake(fake, url, client)
