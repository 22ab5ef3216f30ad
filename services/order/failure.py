"""Why an order could not go on, as the staff see it. What clients get is in `order_errors`."""

from dataclasses import dataclass

from chassis import errors

MAX_DESCRIPTION = 500
"""The longest description of a failure, in characters."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order, or a refund of it, could not go on when it was last tried.

    A defect may repeat for ever. Any other failure, such as an outage, ends by itself.
    """

    description: str
    is_defect: bool = False


def describe_defect(error: Exception) -> Failure:
    """Return what an unexpected exception says, in one line."""
    # The first line: PostgreSQL's others may have the values of the row.
    return _describe(f"{type(error).__name__}: {error}", is_defect=True)


def describe_outage(error: errors.Error) -> Failure:
    """Return what a service that is down or slow says, in one line."""
    return _describe(f"{error.reason}: {error.__cause__ or error.message}")


def _describe(text: str, *, is_defect: bool = False) -> Failure:
    return Failure(text.splitlines()[0][:MAX_DESCRIPTION], is_defect)
