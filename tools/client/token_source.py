"""A session for aiohttp, and for gRPC calls beside it: the token for the next request or call."""

import asyncio
from collections.abc import Callable

import aiohttp

from tools.client.session import Session


class TokenSource:
    """Gets the tokens of a session from a gateway, whose URL is chosen anew for each exchange."""

    def __init__(
        self, session: Session, http: aiohttp.ClientSession, choose_url: Callable[[], str]
    ) -> None:
        self._session = session
        self._http = http
        self._choose_url = choose_url
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """Return an access token that does not expire soon.

        Raises:
            LoginError: the login was refused.
            aiohttp.ClientError: the gateway cannot be reached.
            TimeoutError: it does not respond.
        """
        async with self._lock:
            token = self._session.access_token
            while token is None:
                exchange = self._session.begin_exchange()
                url = self._choose_url() + exchange.path
                async with self._http.post(url, json=exchange.body) as response:
                    content = await response.read()
                token = self._session.finish_exchange(exchange, response.status, content)
        return token

    async def headers(self) -> dict[str, str]:
        """Return the header of a request; raises what `token` does."""
        return {"Authorization": f"Bearer {await self.token()}"}

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a gRPC call; raises what `token` does."""
        return (("authorization", f"Bearer {await self.token()}"),)
