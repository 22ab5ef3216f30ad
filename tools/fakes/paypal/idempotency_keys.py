"""Idempotency keys, which are in the header PayPal-Request-Id.

https://developer.paypal.com/api/rest/reference/idempotency/: a repeated id returns the latest
status of the request that used it first, as long as the server stores the id; the payload is not
compared. How long that is, is in the reference of each API:
https://developer.paypal.com/docs/api/orders/v2/ says 6 hours, .../payments/v2/ says 45 days.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

from tools.fakes.paypal.clock import Clock

ORDERS_LIFETIME = dt.timedelta(hours=6)
PAYMENTS_LIFETIME = dt.timedelta(days=45)
MAX_LENGTH = 108

Show = Callable[[], dict[str, Any]]
"""Returns the latest state of what a request has made."""


class IdempotencyKeys:
    """What the requests with stored keys have made. Refused requests are not stored."""

    def __init__(self, clock: Clock) -> None:
        self.forgets = False
        """True for a server that forgets every key at once."""
        self._clock = clock
        self._made: dict[tuple[str, str], tuple[dt.datetime, Show]] = {}

    def find(self, call: str, key: str) -> Show | None:
        """Return what this call with this key has made, unless the key has expired."""
        expiry, show = self._made.get((call, key), (self._clock.now(), None))
        return show if self._clock.now() < expiry and not self.forgets else None

    def store(self, call: str, key: str, lifetime: dt.timedelta, show: Show) -> None:
        """Store what a call has made."""
        if key:
            self._made[call, key] = (self._clock.now() + lifetime, show)

    def expire_all(self) -> None:
        """Let every key expire."""
        self._made.clear()
