"""Who sends a request: whose quota it counts against, and whose recorded responses it may get.

What somebody may do is decided by services, which verify tokens themselves.
"""

import asyncio
import hashlib

from chassis import errors
from chassis.jwks import KeySet
from chassis.revocations import Revocations
from chassis.tokens import REVOCATION_SECONDS, Verifier
from gateway.http.exchange import Account, Exchange

VERIFY_SECONDS = 0.25
"""How long a request waits for keys that are not known yet."""

_BEARER = "bearer "


class Accounts:
    """Tells accounts apart: by the subjects of tokens, where there are keys to verify them."""

    def __init__(self, keys: KeySet | None) -> None:
        # Only services are told of sessions that have ended, and refuse their tokens.
        nothing_revoked = Revocations(REVOCATION_SECONDS)
        nothing_revoked.known.set()
        self._verifier = None if keys is None else Verifier(keys, nothing_revoked)

    @property
    def can_verify(self) -> bool:
        """Whether there are keys to verify tokens at all."""
        return self._verifier is not None

    async def find(self, exchange: Exchange) -> Account:
        """Return the account of a request.

        It is the subject of a token that is valid, so that it stays the same when the token is
        refreshed. Anything else is an account of its own.
        """
        if exchange.account is None:
            credentials = exchange.header(b"authorization")
            exchange.account = await self._identify(credentials) if credentials else Account()
        return exchange.account

    async def _identify(self, credentials: str) -> Account:
        if self._verifier is not None and credentials[: len(_BEARER)].lower() == _BEARER:
            try:
                async with asyncio.timeout(VERIFY_SECONDS):
                    caller = await self._verifier.verify(credentials[len(_BEARER) :].strip())
            except (errors.Error, TimeoutError):
                pass  # Services refuse what is no valid token.
            else:
                return Account(f"subject {caller.user_id}", is_verified=True)
        return Account(f"credentials {hashlib.sha256(credentials.encode()).hexdigest()}")
