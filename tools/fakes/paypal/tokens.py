"""OAuth 2 access tokens.

https://developer.paypal.com/api/rest/authentication/
"""

import base64
import binascii
import datetime as dt
import hmac
import secrets
from typing import Any

from tools.fakes.paypal.clock import Clock

LIFETIME = dt.timedelta(hours=9)
MAX_TOKENS = 10_000


class Tokens:
    """The tokens of one client, which has an id and a secret."""

    def __init__(self, clock: Clock, client_id: str, client_secret: str) -> None:
        self.issued = 0
        self._clock = clock
        self._credentials = f"{client_id}:{client_secret}".encode()
        self._expiries: dict[str, dt.datetime] = {}

    def issue(self, authorization: str | None, grant_type: str | None) -> tuple[int, Any]:
        """Return the status and the body of the response to a request of a token."""
        if not self._is_client(authorization or ""):
            return 401, {
                "error": "invalid_client",
                "error_description": "Client Authentication failed",
            }
        if grant_type != "client_credentials":
            return 400, {
                "error": "unsupported_grant_type",
                "error_description": "Unsupported grant_type",
            }
        self.issued += 1
        token = f"A21AA{secrets.token_urlsafe(48)}"
        if len(self._expiries) >= MAX_TOKENS:
            self._expiries.pop(next(iter(self._expiries)))
        self._expiries[token] = self._clock.now() + LIFETIME
        seconds = int(LIFETIME.total_seconds())
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": seconds}

    def is_valid(self, authorization: str) -> bool:
        """Return whether a header has a token that has not expired."""
        expiry = self._expiries.get(authorization.removeprefix("Bearer "))
        return expiry is not None and self._clock.now() < expiry

    def expire_all(self) -> None:
        """Let every token expire."""
        self._expiries.clear()

    def _is_client(self, authorization: str) -> bool:
        try:
            given = base64.b64decode(authorization.removeprefix("Basic "), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, self._credentials)
