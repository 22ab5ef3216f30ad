"""The adapter of PayPal for tests: a fixture that connects it to the fake.

A test module gets the fixture `provider` with

    pytest_plugins = ("services.payment.providers.paypal_testing", "tools.fakes.paypal.testing")

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.payment.providers.paypal import PayPalProvider
from tools.fakes.paypal.app import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from tools.fakes.paypal.testing import PayPal

RETURN_URL = "https://shop.example/back"


def make_provider(url: str, webhook_id: str = WEBHOOK_ID) -> PayPalProvider:
    """Make an adapter of the fake at a URL."""
    secret = SecretStr(CLIENT_SECRET)
    return PayPalProvider(url, CLIENT_ID, secret, webhook_id=webhook_id, return_url=RETURN_URL)


@pytest.fixture
async def provider(paypal: PayPal) -> AsyncIterator[PayPalProvider]:
    """Yield an adapter of the fake `paypal`."""
    provider = make_provider(paypal.url)
    yield provider
    await provider.close()
