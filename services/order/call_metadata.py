"""The metadata of responses that are not final: `retry-after`."""

from chassis.codec import Context

RETRY_SECONDS = 1
"""When a client may look again for an order or a refund that is not final yet."""


def send_retry_after(context: Context) -> None:
    """Say that the response is not final."""
    context.set_trailing_metadata((("retry-after", str(RETRY_SECONDS)),))
