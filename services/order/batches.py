"""Batches of orders: splitting them to fit into messages, and isolating items that fail."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from chassis import errors

TRANSIENT: Final = (errors.Unavailable, errors.Aborted, errors.DeadlineExceeded)
"""A service is down or slow, or a transaction lost a race: the same batch may succeed later. Any
other exception is a defect."""

MAX_ORDERS = 1_000
"""The most orders of a chunk, and of a call to another service."""
MAX_BATCH_LINES = 30_000
"""The most lines of a message: with prices they are 2 MB, half of what a message may have."""
MAX_FAILURES = 100
"""How often a batch and its parts may fail before parts that fail are no longer halved."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def split(sized: Iterable[tuple[Item, int]]) -> Iterator[list[Item]]:
    """Yield batches of at most `MAX_ORDERS` items that have at most `MAX_BATCH_LINES` together.

    `sized` are the items, which are orders or their ids, with their numbers of lines.
    """
    batch: list[Item] = []
    lines = 0
    for item, size in sized:
        lines += size
        if batch and (len(batch) == MAX_ORDERS or lines > MAX_BATCH_LINES):
            yield batch
            batch, lines = [], size
        batch.append(item)
    if batch:
        yield batch


async def halve(
    process: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
    batch: Sequence[Item],
    fail: Callable[[Item, Exception], Result],
) -> list[Result]:
    """Process a batch, halving it as long as it fails; return one result per item, in order.

    `process` must be idempotent. The result of an item that fails by itself, or in a part that
    fails after `MAX_FAILURES`, is that of `fail`, which is called in the exception handler.

    Raises:
        errors.Error: `process` raised one of TRANSIENT; halves would fail for the same reason.
    """
    results: list[Result] = []
    failures = 0
    parts = [batch]
    while parts:
        part = parts.pop()
        try:
            results += await process(part)
        except TRANSIENT:
            raise
        except Exception as error:
            failures += 1
            middle = len(part) // 2
            if middle and failures < MAX_FAILURES:
                parts += [part[middle:], part[:middle]]
            else:
                results += [fail(item, error) for item in part]
    return results
