"""Holds that come after the cancellation of a payment are released.

The provider is the sandbox as it would be if its intents could be authorized at any time.
"""

import uuid
from collections.abc import Sequence

import psycopg
import pytest

from chassis.database import Database
from chassis.money import Amount
from services.payment.charges import Charges
from services.payment.domain import Charge, ChargeResult, State
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.worker import Worker

pytest_plugins = ("tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"


class LateProvider(SandboxProvider):
    """Counts how often each intent is cancelled."""

    cancels_finally = False

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.cancelled: list[str] = []

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        self.cancelled += references
        return await super().cancel(references)


@pytest.fixture
def provider(database: Database) -> LateProvider:
    return LateProvider(database)


@pytest.fixture
async def worker(database: Database, provider: LateProvider) -> Worker:
    """Return a worker, and one payment that is cancelled."""
    providers = Providers([provider])
    charge = Charge(uuid.uuid4(), Amount(5, "GBP"), "pm_sandbox_action")
    charges = Charges(database, providers)
    await charges.process([charge])
    (payment,) = await charges.cancel([charge.order_id])
    assert payment.state is State.CANCELLED
    provider.cancelled.clear()
    return Worker(database, providers)


def minutes_to_release(url: str) -> list[int | None]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT round(extract(epoch FROM release_time - now()) / 60)::integer FROM payments"
        )
        return [row[0] for row in rows]


def skip_to_release(url: str) -> None:
    """Let as much time pass as is left."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE payments SET update_time = update_time - (release_time - now()),"
            " release_time = now()"
        )


async def test_a_cancelled_payment_is_cancelled_again_at_growing_intervals(
    worker: Worker, provider: LateProvider, clean_database_url: str
) -> None:
    await worker.run()
    assert provider.cancelled == []
    found = []
    for _ in range(4):
        found += minutes_to_release(clean_database_url)
        skip_to_release(clean_database_url)
        await worker.run()
    assert found == [1, 1, 2, 4]
    assert len(provider.cancelled) == 4


async def test_a_payment_that_can_no_longer_be_held_is_left_alone(
    worker: Worker, provider: LateProvider, clean_database_url: str
) -> None:
    for _ in range(10):
        skip_to_release(clean_database_url)
        await worker.run()
    assert len(provider.cancelled) == 10
    assert minutes_to_release(clean_database_url) == [None]


async def test_a_payment_of_a_provider_that_cancels_finally_is_not_cancelled_again(
    database: Database, clean_database_url: str
) -> None:
    charge = Charge(uuid.uuid4(), Amount(5, "GBP"), "pm_sandbox_action")
    charges = Charges(database, Providers([SandboxProvider(database)]))
    await charges.process([charge])
    await charges.cancel([charge.order_id])
    assert minutes_to_release(clean_database_url) == [None]


async def test_a_hold_that_comes_late_is_released_and_not_captured(
    worker: Worker, clean_database_url: str
) -> None:
    skip_to_release(clean_database_url)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE sandbox.intents SET state = 'REQUIRES_CAPTURE'")
    await worker.run()
    with psycopg.connect(clean_database_url) as connection:
        query = "SELECT state, (SELECT count(*) FROM sandbox.movements) FROM sandbox.intents"
        assert connection.execute(query).fetchall() == [("CANCELLED", 0)]
