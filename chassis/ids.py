"""Ids of resources, which are UUIDs, and the bound on batches of them."""

import re
import uuid
from collections.abc import Sequence

from chassis import errors

MAX_BATCH = 1_000
"""The most ids that a batch method takes."""

_CANONICAL = re.compile("-".join(f"[0-9a-fA-F]{{{digits}}}" for digits in (8, 4, 4, 4, 12)))


def parse_id(value: str, field: str) -> uuid.UUID:
    """Parse an id in the canonical 8-4-4-4-12 form.

    Raises:
        errors.InvalidArgument: it is not a UUID.
    """
    if not _CANONICAL.fullmatch(value):
        violation = errors.Violation(field, "must be a UUID")
        raise errors.InvalidArgument("INVALID_ID", violations=[violation])
    return uuid.UUID(value)


def parse_ids(values: Sequence[str], field: str) -> list[uuid.UUID]:
    """Parse at most `MAX_BATCH` ids, which are UUIDs by the contract, in order.

    Raises:
        errors.InvalidArgument: there are more.
    """
    if len(values) > MAX_BATCH:
        raise errors.InvalidArgument("BATCH_TOO_LARGE", f"{field} has more than {MAX_BATCH} items")
    return [uuid.UUID(value) for value in values]
