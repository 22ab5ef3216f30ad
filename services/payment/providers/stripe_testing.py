"""The adapter of Stripe for tests: a fixture that connects it to the fake.

A test module gets the fixture `provider` with

    pytest_plugins = ("services.payment.providers.stripe_testing", "tools.fakes.stripe.testing")

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator

import pytest

from services.payment.providers.stripe import StripeProvider
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET
from tools.fakes.stripe.testing import Stripe

RETURN_URL = "https://shop.example/back"
AUTHENTICATED = "pm_card_threeDSecure2Required"
"""A payment method that asks for an action of the customer."""


@pytest.fixture
async def provider(stripe: Stripe) -> AsyncIterator[StripeProvider]:
    """Yield an adapter of the fake `stripe`."""
    provider = StripeProvider(stripe.url, API_KEY, WEBHOOK_SECRET, RETURN_URL)
    yield provider
    await provider.close()
