"""Providers that are slow, down or wrong: they stop no other, and nothing wrong is recorded."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest

from chassis import call_context, errors
from chassis.database import Database
from chassis.money import Amount
from chassis.testing import Events
from services.payment.charges import Charges
from services.payment.domain import Charge, ChargeResult, State
from services.payment.providers.attempts import MAX_CONCURRENT, RECORD_SECONDS, Attempts
from services.payment.providers.provider import (
    Authorization,
    Confirmation,
    Intent,
    IntentRequest,
)
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.testing import count

pytest_plugins = ("chassis.testing", "tools.postgres.testing", "services.payment.testing")
DATABASE = "payment"

Item = TypeVar("Item")
Result = TypeVar("Result")

COUNT_CHARGES = "SELECT count(*) FROM transactions WHERE type = 'CHARGE'"


def new_charges(number: int, payment_method: str = "pm_sandbox") -> list[Charge]:
    amount = Amount(12_34, "GBP")
    return [Charge(uuid.uuid4(), amount, payment_method) for _ in range(number)]


class RemoteProvider(SandboxProvider):
    """The sandbox with the latency of a network, and the limits of an adapter."""

    def __init__(self, database: Database, latency_seconds: float = 0.0) -> None:
        super().__init__(database)
        self._attempts = Attempts()
        self.latency_seconds = latency_seconds

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        return await self._call(super().create_intents, requests, None)

    async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
        return await self._call(super().confirm, confirmations, ChargeResult(State.PROCESSING))

    async def authorize(self, references: Sequence[str]) -> list[str]:
        return await self._call(super().authorize, references, "")

    async def capture(self, authorizations: Sequence[Authorization]) -> list[ChargeResult]:
        return await self._call(super().capture, authorizations, ChargeResult(State.PROCESSING))

    async def _call(
        self,
        method: Callable[[Sequence[Item]], Awaitable[list[Result]]],
        items: Sequence[Item],
        unknown: Result,
    ) -> list[Result]:
        async def respond(item: Item) -> Result:
            await asyncio.sleep(self.latency_seconds)
            return (await method([item]))[0]

        async def call(item: Item) -> Result:
            return await self._attempts.repeat(partial(respond, item))

        return await self._attempts.for_each(items, call, unknown)


async def test_a_batch_that_takes_longer_than_its_deadline_is_charged_part_by_part(
    database: Database,
) -> None:
    requested = new_charges(4 * MAX_CONCURRENT)
    seconds = RECORD_SECONDS + 0.6
    charges = Charges(database, Providers([RemoteProvider(database, 0.4)]))
    states: list[State] = []
    for _ in range(20):
        # The server gives up a call at its deadline.
        with (
            contextlib.suppress(errors.Unavailable, TimeoutError),
            call_context.time_limit(seconds),
        ):
            async with asyncio.timeout(seconds):
                states = [each.state for each in await charges.process(requested)]
        if set(states) == {State.SUCCEEDED}:
            break
    assert set(states) == {State.SUCCEEDED}


class HangingProvider(RemoteProvider):
    """A provider that takes more time than any call has."""

    name = "hanging"


@pytest.mark.parametrize("hangs_first", [True, False])
async def test_a_provider_that_hangs_takes_no_time_of_another(
    database: Database, *, hangs_first: bool
) -> None:
    hanging = HangingProvider(database)
    charges = Charges(database, Providers([RemoteProvider(database), hanging]))
    slow, fast = requested = [
        replace(each, manual_capture=True)
        for each in (*new_charges(1, "hanging:pm_sandbox"), *new_charges(1, "pm_sandbox"))
    ]
    if not hangs_first:
        await charges.process([slow])
    hanging.latency_seconds = 3_600.0
    with call_context.time_limit(RECORD_SECONDS + 0.3):
        states = {each.order_id: each.state for each in await charges.process(requested)}
    assert states[fast.order_id] is State.REQUIRES_CAPTURE
    assert states.get(slow.order_id) is (None if hangs_first else State.PROCESSING)
    order_ids = [each.order_id for each in requested if each.order_id in states]
    with call_context.time_limit(RECORD_SECONDS + 0.3):
        captured = {each.order_id: each.state for each in await charges.capture(order_ids)}
    assert captured == {**states, fast.order_id: State.SUCCEEDED}


class DeadProvider(SandboxProvider):
    """A provider that responds to nothing."""

    name = "dead"

    async def create_intents(self, _: Sequence[IntentRequest]) -> list[Intent | None]:
        raise errors.Unavailable("PROVIDER_UNAVAILABLE", "lost")

    async def confirm(self, _: Sequence[Confirmation]) -> list[ChargeResult]:
        raise errors.Unavailable("PROVIDER_UNAVAILABLE", "lost")

    async def cancel(self, _: Sequence[str]) -> list[ChargeResult]:
        raise errors.Unavailable("PROVIDER_UNAVAILABLE", "lost")


class Dying(DeadProvider):
    """A provider that has made intents, and then responds to nothing."""

    async def create_intents(self, requests: Sequence[IntentRequest]) -> list[Intent | None]:
        return await SandboxProvider.create_intents(self, requests)


@pytest.mark.parametrize("kind", [DeadProvider, Dying])
async def test_a_provider_that_is_down_does_not_stop_the_charges_of_another(
    database: Database, kind: type[DeadProvider]
) -> None:
    providers = Providers([SandboxProvider(database), kind(database)])
    charges = Charges(database, providers)
    (waiting,) = new_charges(1, "dead:pm_sandbox")
    (before, after) = new_charges(2, "sandbox:pm_sandbox")
    (free,) = [replace(each, amount=Amount(0, "GBP")) for each in new_charges(1)]
    for _ in range(2):
        payments = await charges.process([before, waiting, free, after])
        settled = [each.order_id for each in payments if each.state is State.SUCCEEDED]
        assert settled == [before.order_id, free.order_id, after.order_id]


async def test_a_provider_that_is_down_does_not_stop_the_cancellations_of_another(
    database: Database,
) -> None:
    providers = Providers([SandboxProvider(database), Dying(database)])
    charges = Charges(database, providers)
    (waiting,) = new_charges(1, "dead:pm_sandbox")
    (other,) = new_charges(1, "pm_sandbox_action")
    await charges.process([waiting, other])
    cancelled = await charges.cancel([waiting.order_id, other.order_id])
    assert [each.state for each in cancelled] == [State.PROCESSING, State.CANCELLED]


class OtherProvider(SandboxProvider):
    """Another sandbox, which can be switched off."""

    name = "other"


async def test_payments_of_a_provider_that_was_switched_off_wait_and_stop_no_others(
    database: Database, events: Events
) -> None:
    (waiting,) = new_charges(1, "other:pm_sandbox_action")
    switched_on = Charges(database, Providers([SandboxProvider(database), OtherProvider(database)]))
    await switched_on.process([waiting])
    switched_off = Charges(database, Providers([SandboxProvider(database)]))
    payments = await switched_off.process([waiting, *new_charges(1)])
    payments += await switched_off.cancel([waiting.order_id])
    states = [each.state for each in payments]
    assert states == [State.PROCESSING, State.SUCCEEDED, State.PROCESSING]
    reported = [(each["event"], each["provider"], each["waiting"]) for each in events]
    assert reported == [("provider_not_switched_on", "other", 1)] * 2
    (cancelled,) = await switched_on.cancel([waiting.order_id])
    assert cancelled.state is State.CANCELLED


async def test_a_charge_whose_provider_does_not_respond_is_unavailable(database: Database) -> None:
    charges = Charges(database, Providers([DeadProvider(database)]))
    with pytest.raises(errors.Unavailable):
        await charges.process(new_charges(1))


async def test_a_result_for_another_amount_is_not_recorded(
    database: Database, events: Events, clean_database_url: str
) -> None:
    class Overcharging(SandboxProvider):
        async def confirm(self, confirmations: Sequence[Confirmation]) -> list[ChargeResult]:
            return [
                ChargeResult(State.SUCCEEDED, amount=Amount(99_99, "GBP")) for _ in confirmations
            ]

    charges = Charges(database, Providers([Overcharging(database)]))
    (payment,) = await charges.process(new_charges(1))
    assert payment.state is State.PROCESSING
    assert count(clean_database_url, COUNT_CHARGES) == 0
    assert [event["event"] for event in events] == ["payment_amount_differs"]
