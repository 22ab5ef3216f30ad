"""The metadata of calls: the idempotency key of a request, the `retry-after` of a response."""

import uuid

from chassis.codec import Context

RETRY_SECONDS = 1
"""When a client may look again for an order or a refund that is not final yet."""

_IDEMPOTENCY_KEY = "idempotency-key"


def read_idempotency_key(context: Context) -> str:
    """Return the idempotency key in the metadata of a call, or a new one if there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == _IDEMPOTENCY_KEY:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return str(uuid.uuid4())


def send_retry_after(context: Context) -> None:
    """Say that the response is not final."""
    context.set_trailing_metadata((("retry-after", str(RETRY_SECONDS)),))
