"""Test fixtures of webhooks: the payment service with the fake of Stripe as its only provider.

PYTEST_DONT_REWRITE: test modules import it before pytest does.
"""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
import pytest

from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, Payment, State
from services.payment.providers.registry import Providers
from services.payment.providers.stripe import StripeProvider
from services.payment.webhooks import Webhooks
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET, sign
from tools.fakes.stripe.testing import Stripe

AMOUNT = Amount(12_34, "GBP")
AUTHENTICATED = "pm_card_threeDSecure2Required"
SUCCEEDED = "payment_intent.succeeded"


class Setup:
    """The webhooks of a payment service whose only provider is Stripe."""

    def __init__(self, database: Database, url: str, fake: Stripe) -> None:
        self.database = database
        self.fake = fake
        self.url = url
        stripe = StripeProvider(fake.url, API_KEY, WEBHOOK_SECRET, "https://shop.example/back")
        self.providers = Providers([stripe])
        self.charges = Charges(database, self.providers)
        self.webhooks = Webhooks(database, self.providers, self.charges)

    async def charge(self, method: str = AUTHENTICATED, *, manual_capture: bool = False) -> Payment:
        """Charge a new order; return its payment."""
        charge = Charge(uuid.uuid4(), AMOUNT, method, manual_capture)
        return (await self.charges.process([charge]))[0]

    async def receive(self, event: bytes, provider: str = "stripe") -> None:
        """Receive an event that its provider has signed."""
        await self.webhooks.handle(provider, sign(event, WEBHOOK_SECRET), event)

    def read(self, payment: Payment) -> tuple[State, int]:
        """Return the state and the version of the stored payment."""
        with psycopg.connect(self.url) as connection:
            ((state, version),) = connection.execute(
                "SELECT state, version FROM payments WHERE payment_id = %s", (payment.payment_id,)
            ).fetchall()
        return State(state), version

    def execute(self, statement: LiteralString, *parameters: object) -> None:
        """Execute a statement in the database of the service."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, parameters)

    def reasons(self) -> list[str]:
        """Return why webhooks in the inbox were quarantined; empty for those that were applied."""
        with psycopg.connect(self.url) as connection:
            query = "SELECT quarantine_reason FROM webhook_inbox ORDER BY receive_time"
            return [reason for (reason,) in connection.execute(query).fetchall()]


@pytest.fixture
async def setup(
    database: Database, clean_database_url: str, stripe: Stripe
) -> AsyncIterator[Setup]:
    """Yield the webhooks of a payment service on an empty database."""
    setup = Setup(database, clean_database_url, stripe)
    yield setup
    await setup.providers.close()


def make_event(
    reference: str, event_type: str = SUCCEEDED, event_id: str = "evt_1", **described: Any
) -> bytes:
    """Make an event in the layout of Stripe, which a JSON library would write differently."""
    described = {"id": reference, "object": "payment_intent", "status": "succeeded", **described}
    event = {"id": event_id, "object": "event", "type": event_type, "data": {"object": described}}
    return json.dumps(event, indent=2).encode()
