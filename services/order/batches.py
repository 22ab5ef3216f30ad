"""Batches that fail: which failures pass, and how the one item that poisons a batch is found."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from chassis import errors

TRANSIENT: Final = (errors.Unavailable, errors.Aborted, errors.DeadlineExceeded)
"""Somebody is down, slow, or was faster: the same batch may succeed later. All else is a defect."""

MAX_FAILURES = 100
"""How often a batch and its parts may fail before what is left of it is not halved any more."""

Item = TypeVar("Item")
Result = TypeVar("Result")


async def halve(
    take: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
    batch: Sequence[Item],
    fail: Callable[[Item], Result],
) -> list[Result]:
    """Take a batch and return one result per item, in order; halve what fails until it succeeds.

    `take` must be safe to repeat. An item that fails alone, or once there were `MAX_FAILURES`,
    gets the result of `fail`, which is called while the exception is handled. What is `TRANSIENT`
    is raised as it is: halves would fail for the same reason.
    """
    results: list[Result] = []
    failures = 0
    parts = [batch]
    while parts:
        part = parts.pop()
        try:
            results += await take(part)
        except TRANSIENT:
            raise
        except Exception:
            failures += 1
            middle = len(part) // 2
            if middle and failures < MAX_FAILURES:
                parts += [part[middle:], part[:middle]]
            else:
                results += [fail(item) for item in part]
    return results
