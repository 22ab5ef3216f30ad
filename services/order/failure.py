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


REFUND_PENDING = Failure("REFUND_PENDING")
"""The provider has not finished a refund, for which a bank may take days."""


def from_defect(error: Exception) -> Failure:
    """Return the failure that an unexpected exception is."""
    return from_text(f"{type(error).__name__}: {error}", is_defect=True)


def from_outage(error: errors.Error) -> Failure:
    """Return the failure that a service or database causes that is down or slow.

    Its address, which the text of the cause has, is only for the log.
    """
    cause = error.__cause__
    what = cause.call if isinstance(cause, errors.FailedCallError) else error.message
    return from_text(f"{error.reason}: {what}")


def from_text(text: str, *, is_defect: bool = False) -> Failure:
    """Return a failure that is described by the first line of a text, cut at MAX_DESCRIPTION."""
    # PostgreSQL's other lines may have the values of a row.
    return Failure(text.splitlines()[0][:MAX_DESCRIPTION], is_defect)
