"""A session for httpx: `httpx.Client(base_url=..., auth=Bearer(Session(email, password)))`."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator

import httpx

from tools.client.session import Exchange, Session


class Bearer(httpx.Auth):
    """Logs in before the first request of a client, and refreshes the tokens before they expire.

    Requests raise `LoginError` if the login is refused. Redirects to other origins get no token.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._async_lock = asyncio.Lock()

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the requests of exchanges if there must be some, and then the request."""
        with self._lock:
            token = self._session.access_token
            while token is None:
                exchange = self._session.begin_exchange()
                response = yield _to_request(exchange, request)
                status, content = response.status_code, response.read()
                token = self._session.finish_exchange(exchange, status, content)
        yield _authorize(request, token)

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Yield the requests of exchanges if there must be some, and then the request."""
        async with self._async_lock:
            token = self._session.access_token
            while token is None:
                exchange = self._session.begin_exchange()
                response = yield _to_request(exchange, request)
                status, content = response.status_code, await response.aread()
                token = self._session.finish_exchange(exchange, status, content)
        yield _authorize(request, token)


def _to_request(exchange: Exchange, request: httpx.Request) -> httpx.Request:
    """Return the request of an exchange with the shop that another request is for."""
    timeout = {"timeout": request.extensions.get("timeout")}
    url = request.url.join(exchange.path)
    return httpx.Request("POST", url, json=dict(exchange.body), extensions=timeout)


def _authorize(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
