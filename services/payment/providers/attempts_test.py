"""Calls of adapters are bounded in number and in time, and repeated while that is safe."""

import asyncio
import time

import pytest

from chassis import call_context, errors
from services.payment.providers.attempts import (
    MAX_ATTEMPTS,
    MAX_CONCURRENT,
    RECORD_SECONDS,
    Attempts,
    Unknown,
)


class Failing:
    """Raises Unknown a number of times, then returns."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts = 0

    async def attempt(self) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise Unknown("no response")
        return "done"


async def test_an_attempt_is_repeated_until_it_succeeds() -> None:
    failing = Failing(MAX_ATTEMPTS - 1)
    assert await Attempts().repeat(failing.attempt) == "done"


async def test_attempts_end() -> None:
    failing = Failing(1_000)
    with pytest.raises(Unknown, match="no response"):
        await Attempts().repeat(failing.attempt)
    assert failing.attempts == MAX_ATTEMPTS


async def test_attempts_end_with_the_deadline() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    start = time.monotonic()
    with call_context.time_limit(RECORD_SECONDS + 0.2), pytest.raises(Unknown):
        await Attempts().repeat(hang)
    assert time.monotonic() - start < 5


async def test_nothing_is_begun_that_could_not_be_recorded() -> None:
    failing = Failing(0)
    with call_context.time_limit(RECORD_SECONDS / 2), pytest.raises(Unknown):
        await Attempts().repeat(failing.attempt)
    assert failing.attempts == 0


async def test_a_batch_ends_before_its_deadline_with_what_is_known_by_then() -> None:
    attempts = Attempts()

    async def call(_: int) -> str:
        async def respond() -> str:
            await asyncio.sleep(0.6)
            return "known"

        return await attempts.repeat(respond)

    with call_context.time_limit(RECORD_SECONDS + 1.0):
        results = await attempts.for_each(range(3 * MAX_CONCURRENT), call, "unknown")
        assert call_context.remaining_seconds(at_most=10) > 0
    assert results.count("known") == MAX_CONCURRENT


async def test_results_are_in_the_order_of_the_items_with_unknown_ones_marked() -> None:
    async def call(item: int) -> str:
        await asyncio.sleep(0.01 * (3 - item))
        if item == 1:
            raise Unknown("no response")
        return str(item)

    assert await Attempts().for_each([0, 1, 2], call, "unknown") == ["0", "unknown", "2"]


async def test_a_batch_of_which_nothing_is_known_is_unavailable() -> None:
    async def call(_: int) -> str:
        raise Unknown("no response")

    with pytest.raises(errors.Unavailable):
        await Attempts().for_each([0, 1], call, "unknown")
    assert await Attempts().for_each([], call, "unknown") == []


async def test_calls_of_all_batches_are_bounded() -> None:
    running = peak = 0

    async def call(_: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    attempts = Attempts()
    await asyncio.gather(*(attempts.for_each(range(50), call, None) for _ in range(3)))
    assert peak == MAX_CONCURRENT


async def test_a_charge_does_not_wait_for_a_whole_batch_before_it() -> None:
    begun, done = asyncio.Event(), 0

    async def call(_: int) -> None:
        nonlocal done
        begun.set()
        await asyncio.sleep(0)
        done += 1

    attempts = Attempts()
    async with asyncio.TaskGroup() as group:
        group.create_task(attempts.for_each(range(10 * MAX_CONCURRENT), call, None))
        await begun.wait()
        await attempts.for_each([0], call, None)
        assert done <= 5 * MAX_CONCURRENT


async def test_a_batch_that_waits_for_others_ends_before_its_deadline() -> None:
    attempts, begun, others_end = Attempts(), asyncio.Event(), asyncio.Event()

    async def wait(_: int) -> None:
        begun.set()
        await others_end.wait()

    others = asyncio.create_task(attempts.for_each(range(MAX_CONCURRENT), wait, None))
    await begun.wait()
    async with asyncio.timeout(5):
        with call_context.time_limit(RECORD_SECONDS + 0.1), pytest.raises(errors.Unavailable):
            await attempts.for_each([0], wait, None)
    others_end.set()
    await others
    # No slot was lost.
    await attempts.for_each(range(MAX_CONCURRENT), wait, None)
