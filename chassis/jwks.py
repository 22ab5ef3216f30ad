"""The public keys of an issuer of tokens, as a JSON Web Key Set (RFC 7517)."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context

import jwt

from chassis import errors

REFRESH_SECONDS = 300.0
"""How often keys are fetched: a new one is published much longer before it signs."""
SEARCH_SECONDS = 10.0
"""How long keys are not fetched again because of tokens whose keys are unknown."""
RETRY_SECONDS = 0.5
"""The same after the issuer did not respond."""
FETCH_SECONDS = 3.0
_MAX_KEYS = 100
_FAILURES = (TimeoutError, ValueError, jwt.PyJWTError, errors.Error, errors.FailedCallError)


class KeySet:
    """The keys by their ids; `fetch` returns the JSON document.

    While `fetch` fails, the keys of the last success are used.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]]) -> None:
        self._fetch = fetch
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._search: asyncio.Task[None] | None = None
        self._next_search = 0.0
        self._is_reachable = False

    def has(self, key_id: str) -> bool:
        """Return whether a key was among those fetched last."""
        return key_id in self._keys

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return a key; fetch all if it is not known, but not again and again.

        Raises:
            errors.Unavailable: it is not known, and the issuer does not respond.
        """
        if key_id not in self._keys:
            if self._search is None or self._search.done():
                # With a context of its own: the deadline of one call is not that of the others.
                self._search = asyncio.create_task(self._search_once(), context=Context())
            await asyncio.shield(self._search)
            if key_id not in self._keys and not self._is_reachable:
                raise _unavailable()
        return self._keys.get(key_id)

    async def refresh(self) -> None:
        """Fetch all keys.

        Raises:
            errors.Unavailable: the issuer does not respond, or not with keys.
        """
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                document = await self._fetch()
            keys = _parse(document)
        except _FAILURES as error:
            self._is_reachable = False
            raise _unavailable() from error
        self._keys = {key.key_id: key for key in keys[:_MAX_KEYS] if key.key_id}
        self._is_reachable = True

    async def _search_once(self) -> None:
        """Fetch the keys for calls that need an unknown one, unless that was just done."""
        if time.monotonic() >= self._next_search:
            with contextlib.suppress(errors.Unavailable):
                await self.refresh()
            pause_seconds = SEARCH_SECONDS if self._is_reachable else RETRY_SECONDS
            self._next_search = time.monotonic() + pause_seconds


def _parse(document: bytes) -> list[jwt.PyJWK]:
    parsed = json.loads(document)
    if not isinstance(parsed, dict):
        raise ValueError("the document is no JSON object")
    return jwt.PyJWKSet.from_dict(parsed).keys


def _unavailable() -> errors.Unavailable:
    message = "The keys that verify tokens cannot be fetched. Try again."
    return errors.Unavailable("KEYS_UNAVAILABLE", message)
