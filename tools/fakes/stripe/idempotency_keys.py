"""Idempotency keys: https://docs.stripe.com/api/idempotent_requests."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.fakes.stripe.errors import NotExecutedError

MAX_KEY_LENGTH = 255
MAX_KEYS = 1_000_000
"""More are refused, which is no rule of Stripe but of the fake's memory."""
LIFETIME_SECONDS = 24 * 60 * 60.0
"""Keys may be removed "after they're at least 24 hours old"."""


@dataclass(slots=True)
class _Saved:
    """The first request with a key; `response` is None while it is being executed."""

    request: str
    time: float
    response: tuple[int, bytes] | None = None


@dataclass(slots=True)
class IdempotencyKeys:
    """Saves the response to the first request of each key, "including `500` errors"."""

    now: Callable[[], float] = time.monotonic
    _saved: dict[str, _Saved] = field(default_factory=dict)
    """Oldest first."""

    def begin(self, key: str, request: str) -> tuple[int, bytes] | None:
        """Return the saved response to a request, or None if it is to be executed now.

        Raises:
            NotExecutedError: the key is in use by a request under way (409), was used for a request
                with other parameters (400), or is too long.
        """
        if len(key) > MAX_KEY_LENGTH:
            message = f"Idempotency keys must be at most {MAX_KEY_LENGTH} characters long."
            raise NotExecutedError(message, error_type="idempotency_error")
        self._remove_old()
        saved = self._saved.get(key)
        if saved is None:
            if len(self._saved) >= MAX_KEYS:
                raise NotExecutedError("The fake is full.", status=500, error_type="api_error")
            self._saved[key] = _Saved(request, self.now())
            return None
        if saved.request != request:
            message = (
                "Keys for idempotent requests can only be used with the same parameters"
                " they were first used with."
            )
            raise NotExecutedError(message, error_type="idempotency_error")
        if saved.response is None:
            message = "There is currently another in-progress request using this idempotency key."
            raise NotExecutedError(
                message, status=409, error_type="idempotency_error", code="idempotency_key_in_use"
            )
        return saved.response

    def save(self, key: str, status: int, body: bytes) -> None:
        """Save the response to a request that was executed."""
        if key in self._saved:  # All keys may have expired meanwhile.
            self._saved[key].response = (status, body)

    def release(self, key: str) -> None:
        """Forget a request that was not executed: "you can retry these requests"."""
        self._saved.pop(key, None)

    def expire_all(self) -> None:
        """Forget every key, as after 24 hours."""
        self._saved.clear()

    def _remove_old(self) -> None:
        oldest = self.now() - LIFETIME_SECONDS
        while self._saved:
            key = next(iter(self._saved))
            if self._saved[key].time > oldest:
                return
            del self._saved[key]
