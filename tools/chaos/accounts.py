"""The admin and the customers of a run, who log in at any gateway and stay logged in."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Sequence
from random import Random

import aiohttp

from tools.client.session import LoginError, Session
from tools.client.token_source import TokenSource

ADMIN_EMAIL = "admin@bazaar.example"
PASSWORD = "correct horse"  # noqa: S105 - of shops that are gone after a run.
RENEWAL = dt.timedelta(minutes=9)
"""How long before its end a token of ten minutes is replaced: so soon that faults hit many of these
refreshes, and that the logins after them remain within the limit of an account."""
TIMEOUT_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
"""How long it may be impossible to log in before the shop counts as down."""
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.5, 16.0

Metadata = Sequence[tuple[str, str]]


class Accounts:
    """Logs users in by their ids, and the admin. `outcomes` counts the failures."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        gateway_urls: Sequence[str],
        random: Random,
        outcomes: Counter[str],
    ) -> None:
        self._http = http
        self._gateway_urls = gateway_urls
        self._random = random
        self._outcomes = outcomes
        self._admin = self._open(ADMIN_EMAIL)
        self._customers: dict[str, TokenSource] = {}

    async def register(self, email: str) -> None:
        """Register a customer; `add` tells the id, which the shop assigns."""
        body = {"email": email, "password": PASSWORD, "displayName": "Ada"}
        url = f"{self._choose_url()}/v1/users:register"
        async with self._http.post(url, json=body) as response:
            response.raise_for_status()

    def add(self, user_id: str, email: str) -> None:
        """Let a customer who is registered log in."""
        self._customers[user_id] = self._open(email)

    async def authorize(self, user_id: str = "") -> Metadata:
        """Return the metadata of a call by a customer, or by the admin.

        Raises:
            TimeoutError: the user cannot log in for PATIENCE_SECONDS.
        """
        source = self._customers[user_id] if user_id else self._admin
        pause_seconds = _FIRST_PAUSE_SECONDS
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (metadata := await self._try(source)) is None:
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LAST_PAUSE_SECONDS)
        return metadata

    async def _try(self, source: TokenSource) -> Metadata | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await source.metadata()
        except LoginError as error:
            self._outcomes[f"login {error.status}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self._outcomes[f"login {type(error).__name__}"] += 1
        return None

    def _open(self, email: str) -> TokenSource:
        session = Session(email, PASSWORD, RENEWAL)
        return TokenSource(session, self._http, self._choose_url)

    def _choose_url(self) -> str:
        return self._random.choice(self._gateway_urls)
