"""Batches of ids, which are UUIDs, and their bound."""

import uuid
from collections.abc import Sequence

from chassis import errors

MAX_BATCH = 1_000
"""The most ids that a batch method takes."""


def parse_ids(values: Sequence[str], field: str) -> list[uuid.UUID]:
    """Parse at most `MAX_BATCH` ids, which are UUIDs by the contract, in order.

    Raises:
        errors.InvalidArgument: there are more.
    """
    if len(values) > MAX_BATCH:
        raise errors.InvalidArgument("BATCH_TOO_LARGE", f"{field} has more than {MAX_BATCH} items")
    return [uuid.UUID(value) for value in values]
