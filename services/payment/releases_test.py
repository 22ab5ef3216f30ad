"""Holds that come after the cancellation of a payment are released.

The provider is the sandbox as it would be if its intents could be authorized at any time.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import LiteralString

import psycopg
import pytest

from chassis import errors
from chassis.database import Database
from chassis.money import Amount
from chassis.testing import Events
from services.payment import releases as releases_module
from services.payment.charges import Charges
from services.payment.domain import Charge, ChargeResult, State
from services.payment.providers.attempts import Attempts
from services.payment.providers.provider import Provider
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.releases import Releases, make_tasks

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"

WAIT_SECONDS = 10
UNKNOWN = ChargeResult(State.PROCESSING)


class LateProvider(SandboxProvider):
    """Keeps the references of intents that were cancelled, each as often as it was."""

    cancellation_is_final = False

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.cancelled: list[str] = []
        self.has_cancelled = asyncio.Event()

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        self.cancelled += references
        self.has_cancelled.set()
        return await super().cancel(references)


@pytest.fixture
def provider(database: Database) -> LateProvider:
    return LateProvider(database)


@pytest.fixture
async def releases(database: Database, provider: LateProvider) -> Releases:
    """Return the releases of a provider, which has one payment that is cancelled."""
    await cancel_payment(database, provider)
    provider.cancelled.clear()
    provider.has_cancelled.clear()
    return Releases(database, provider)


async def run(releases: Releases) -> None:
    """Cancel all payments that are due, which must come to an end."""
    async with asyncio.timeout(WAIT_SECONDS):
        await releases.run()


async def cancel_payment(database: Database, provider: Provider) -> None:
    charge = Charge(uuid.uuid4(), Amount(5, "GBP"), "pm_sandbox_action")
    charges = Charges(database, Providers([provider]))
    await charges.process([charge])
    (payment,) = await charges.cancel([charge.order_id])
    assert payment.state is State.CANCELLED


def execute(url: str, statement: LiteralString) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def minutes_to_release(url: str) -> list[int | None]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT round(extract(epoch FROM release_time - now()) / 60)::integer FROM payments"
        )
        return [row[0] for row in rows]


def skip_to_release(url: str) -> None:
    """Let as much time pass as is left."""
    execute(
        url,
        "UPDATE payments SET update_time = update_time - (release_time - now()),"
        " release_time = now()",
    )


async def test_a_cancelled_payment_is_cancelled_again_at_growing_intervals(
    releases: Releases, provider: LateProvider, clean_database_url: str
) -> None:
    await run(releases)
    assert provider.cancelled == []
    found = []
    for _ in range(4):
        found += minutes_to_release(clean_database_url)
        skip_to_release(clean_database_url)
        await run(releases)
    assert found == [1, 1, 2, 4]
    assert len(provider.cancelled) == 4


async def test_a_payment_that_can_no_longer_be_held_is_left_alone(
    releases: Releases, provider: LateProvider, clean_database_url: str
) -> None:
    for _ in range(10):
        skip_to_release(clean_database_url)
        await run(releases)
    assert len(provider.cancelled) == 10
    assert minutes_to_release(clean_database_url) == [None]


async def test_a_payment_of_a_provider_whose_cancellations_are_final_is_not_cancelled_again(
    database: Database, clean_database_url: str
) -> None:
    await cancel_payment(database, SandboxProvider(database))
    assert minutes_to_release(clean_database_url) == [None]
    assert make_tasks(database, [SandboxProvider(database)]) == []


async def test_a_hold_that_comes_late_is_released_and_not_captured(
    releases: Releases, clean_database_url: str
) -> None:
    skip_to_release(clean_database_url)
    execute(clean_database_url, "UPDATE sandbox.intents SET state = 'REQUIRES_CAPTURE'")
    await run(releases)
    with psycopg.connect(clean_database_url) as connection:
        query = "SELECT state, (SELECT count(*) FROM sandbox.movements) FROM sandbox.intents"
        assert connection.execute(query).fetchall() == [("CANCELLED", 0)]


LATER = "UPDATE payments SET update_time = now() - interval '7 hours', release_time = now()"
MUCH_LATER = "UPDATE payments SET update_time = now() - interval '31 days', release_time = now()"


@pytest.mark.parametrize("failure", [errors.Unavailable("DOWN"), KeyError("defect"), None])
async def test_a_release_whose_outcome_is_unknown_is_repeated(
    releases: Releases,
    provider: LateProvider,
    clean_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | None,
) -> None:
    calls = 0

    async def cancel(references: Sequence[str]) -> list[ChargeResult]:
        nonlocal calls
        calls += 1
        if failure is not None:
            raise failure
        return [UNKNOWN for _ in references]

    execute(clean_database_url, LATER)
    with monkeypatch.context() as patch:
        patch.setattr(provider, "cancel", cancel)
        (found,) = await asyncio.gather(run(releases), return_exceptions=True)
    assert (found, calls) == (failure, 1)
    # It would have been the last one.
    assert minutes_to_release(clean_database_url) == [1]
    skip_to_release(clean_database_url)
    await run(releases)
    assert len(provider.cancelled) == 1
    assert minutes_to_release(clean_database_url) == [None]


async def test_a_cancelled_payment_that_was_charged_is_an_error_that_is_logged_once(
    releases: Releases, clean_database_url: str, events: Events
) -> None:
    execute(clean_database_url, "UPDATE sandbox.intents SET state = 'SUCCEEDED'")
    for _ in range(2):
        execute(
            clean_database_url,
            "UPDATE payments SET release_time = now() WHERE release_time IS NOT NULL",
        )
        await run(releases)
    assert [(each["event"], each["log_level"]) for each in events] == [
        ("cancelled_payment_charged", "error")
    ]
    execute(clean_database_url, "UPDATE sandbox.intents SET state = 'CANCELLED'")


async def test_a_payment_that_no_provider_can_hold_any_more_is_given_up_and_logged_once(
    releases: Releases, provider: LateProvider, clean_database_url: str, events: Events
) -> None:
    execute(clean_database_url, MUCH_LATER)
    for _ in range(2):
        await run(releases)
    assert provider.cancelled == []
    assert minutes_to_release(clean_database_url) == [None]
    assert [(each["event"], each["log_level"]) for each in events] == [
        ("cancelled_payment_given_up", "error")
    ]


async def test_two_runs_at_once_do_not_cancel_the_same_payments(
    releases: Releases, database: Database, provider: LateProvider, clean_database_url: str
) -> None:
    skip_to_release(clean_database_url)
    await asyncio.gather(run(releases), run(Releases(database, provider)))
    assert len(provider.cancelled) == 1


async def test_a_result_that_comes_after_the_lease_is_not_recorded(
    releases: Releases,
    provider: LateProvider,
    clean_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancel_too_late(references: Sequence[str]) -> list[ChargeResult]:
        # Another process has claimed the payment since.
        execute(clean_database_url, "UPDATE payments SET release_time = now() + interval '1 hour'")
        return [ChargeResult(State.CANCELLED) for _ in references]

    execute(clean_database_url, LATER)
    monkeypatch.setattr(provider, "cancel", cancel_too_late)
    await run(releases)
    assert minutes_to_release(clean_database_url) == [60]


async def test_a_provider_that_hangs_holds_its_releases_for_a_limited_time(
    releases: Releases,
    provider: LateProvider,
    clean_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = Attempts()

    async def hang(_: str) -> ChargeResult:
        return await attempts.repeat(asyncio.get_running_loop().create_future)

    async def cancel(references: Sequence[str]) -> list[ChargeResult]:
        return await attempts.for_each(references, hang, UNKNOWN)

    skip_to_release(clean_database_url)
    monkeypatch.setattr(provider, "cancel", cancel)
    monkeypatch.setattr(releases_module, "CANCEL_SECONDS", 0.6)
    with pytest.raises(errors.Unavailable):
        await run(releases)


class FailingProvider(LateProvider):
    """Fails, or hangs, when a payment is cancelled once more."""

    name = "failing"

    def __init__(self, database: Database, failure: Exception | None) -> None:
        super().__init__(database)
        self._failure = failure

    async def cancel(self, references: Sequence[str]) -> list[ChargeResult]:
        results = await super().cancel(references)
        if len(self.cancelled) == 1:
            return results
        if self._failure is not None:
            raise self._failure
        hung: list[ChargeResult] = await asyncio.get_running_loop().create_future()
        return hung


@pytest.mark.parametrize("failure", [errors.Unavailable("DOWN"), KeyError("defect"), None])
async def test_no_provider_stops_the_releases_of_another(
    releases: Releases,
    provider: LateProvider,
    database: Database,
    clean_database_url: str,
    failure: Exception | None,
) -> None:
    failing = FailingProvider(database, failure)
    await cancel_payment(database, failing)
    failing.has_cancelled.clear()
    skip_to_release(clean_database_url)
    tasks = make_tasks(database, [failing, provider])
    for task in tasks:
        task.start()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(failing.has_cancelled.wait(), provider.has_cancelled.wait())
    for task in tasks:
        await task.stop()
    assert len(provider.cancelled) == 1


async def test_a_payment_waits_for_a_provider_that_is_switched_off(
    releases: Releases, provider: LateProvider, database: Database, clean_database_url: str
) -> None:
    skip_to_release(clean_database_url)
    await run(Releases(database, FailingProvider(database, KeyError("another payment"))))
    await run(releases)
    assert len(provider.cancelled) == 1
