"""How adapters call HTTP APIs: items at once, again after failures, never past the deadline."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from chassis import call_context, errors

MAX_CONCURRENT = 20
"""How many items of all batches are in progress at once. Of each batch, no more than these are in
the queue, so that a batch need not wait until another is done."""
MAX_ATTEMPTS = 3
ATTEMPT_SECONDS = 10.0
SLOT_SECONDS = 300.0
"""How long an item waits for its turn, if the deadline does not come first."""
BACKOFF_SECONDS = 0.2
"""The longest wait before the second attempt; it doubles before the third."""
RECORD_SECONDS = 0.5
"""How long before its deadline a batch ends, so that the caller can record what is known by then.
Without it, a batch that takes longer than its deadline would begin anew for ever."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Unknown(Exception):
    """The provider did not respond, or failed: whether it processed the request is unknown.

    A later attempt may succeed. The message must not contain a secret.
    """


class Attempts:
    """Bounds the calls of one adapter, in number and in time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def for_each(
        self,
        items: Sequence[Item],
        call: Callable[[Item], Awaitable[Result]],
        unknown: Result,
    ) -> list[Result]:
        """Call for each item; return results in order, with `unknown` where it raised Unknown.

        Raises:
            errors.Unavailable: the outcomes of all items are unknown.
        """
        batch_slots = asyncio.Semaphore(MAX_CONCURRENT)

        async def call_one(item: Item) -> tuple[Result, Unknown | None]:
            try:
                async with batch_slots, self._slot():
                    return await call(item), None
            except Unknown as error:
                return unknown, error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call_one(item)) for item in items]
        outcomes = [task.result() for task in tasks]
        failures = [error for _, error in outcomes if error is not None]
        if failures and len(failures) == len(items):
            message = "The payment provider did not respond."
            raise errors.Unavailable("PROVIDER_UNAVAILABLE", message) from failures[0]
        return [result for result, _ in outcomes]

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for a slot, which the items of other batches may have, until the deadline is near.

        Raises:
            Unknown: there was none.
        """
        try:
            async with asyncio.timeout(_remaining_seconds(SLOT_SECONDS)):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Unknown("Too many calls of the payment provider are in progress.") from error
        try:
            yield
        finally:
            self._slots.release()

    async def repeat(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Make attempts until one does not raise Unknown, with jitter between them.

        The attempts must be the same request, with one idempotency key.

        Raises:
            Unknown: the last of them failed, or the deadline of the call is near.
        """
        failure = Unknown("No time is left to call the payment provider.")
        wait_seconds = 0.0
        for number in range(MAX_ATTEMPTS):
            if _remaining_seconds() <= wait_seconds:
                break
            await asyncio.sleep(wait_seconds)
            try:
                async with asyncio.timeout(_remaining_seconds()):
                    return await attempt()
            except TimeoutError:
                failure = Unknown("The payment provider did not respond in time.")
            except Unknown as error:
                failure = error
            wait_seconds = random.uniform(0, BACKOFF_SECONDS * 2**number)  # noqa: S311
        raise failure


def _remaining_seconds(at_most: float = ATTEMPT_SECONDS) -> float:
    """Return how long an attempt may take, or a wait before it."""
    return call_context.remaining_seconds(at_most + RECORD_SECONDS) - RECORD_SECONDS
