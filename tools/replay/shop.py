"""A client of the shop's REST API. Knows its JSON, and nothing of files of trade."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from tools.client.session import Session
from tools.client.token_source import TokenSource

Message = dict[str, Any]

_NANOS_PER_PENNY = 10_000_000
_MAX_PAGE_SIZE = 2**31 - 1
_MAX_LINE_BYTES = 8 * 1024 * 1024


class ShopError(Exception):
    """The shop refused a request; `reason` is that of its problem document."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{status} {reason}: {detail}")
        self.status = status
        self.reason = reason


class Shop:
    """The shop at a URL such as `http://127.0.0.1:8080`, to the user of a session.

    All methods raise `LoginError` if the login is refused.
    """

    def __init__(
        self,
        url: str,
        session: Session,
        *,
        connections: int,
        tls: ssl.SSLContext | bool = True,
        middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
    ) -> None:
        self._url = url.rstrip("/")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            middlewares=middlewares,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60),
            read_bufsize=_MAX_LINE_BYTES,
        )
        self._tokens = TokenSource(session, self._http, lambda: self._url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def post(self, path: str, body: Message) -> Message:
        """Send a message and return the response.

        Raises:
            ShopError: the shop refused it.
            aiohttp.ClientError: the shop cannot be reached.
        """
        headers = await self._tokens.headers()
        async with self._http.post(self._url + path, json=body, headers=headers) as response:
            await _raise_for_status(response)
            message: Message = await response.json(content_type=None)
            return message

    async def approve(self, redirect_url: str) -> None:
        """Try to approve a payment on the page of a fake provider, as the customer would.

        Whether it is approved, only the shop can tell.
        """
        form = {"action": "approve"}
        with contextlib.suppress(aiohttp.ClientError):
            # The page sends the customer back to the shop, or refuses what is approved already.
            async with self._http.post(redirect_url, data=form, allow_redirects=False):
                pass

    async def get(self, path: str, **parameters: str) -> Message:
        """Return one message.

        Raises:
            ShopError: the shop refused it.
            aiohttp.ClientError: the shop cannot be reached.
        """
        headers = await self._tokens.headers()
        async with self._http.get(self._url + path, params=parameters, headers=headers) as response:
            await _raise_for_status(response)
            message: Message = await response.json(content_type=None)
            return message

    async def stream(self, path: str, **parameters: str) -> AsyncIterator[Message]:
        """Yield the messages of a streamed list, to its end.

        Raises:
            ShopError: the shop refused it, at once or in the middle.
            aiohttp.ClientError: the shop cannot be reached.
        """
        parameters["pageSize"] = str(_MAX_PAGE_SIZE)
        headers = await self._tokens.headers()
        async with self._http.get(self._url + path, params=parameters, headers=headers) as response:
            async for message in _read_messages(response):
                yield message

    async def exchange(self, path: str, messages: Iterable[Message]) -> AsyncIterator[Message]:
        """Send a stream of messages and yield the responses, which arrive while it is being sent.

        Raises:
            ShopError: the shop refused it, at once or in the middle.
            aiohttp.ClientError: the shop cannot be reached.
        """

        async def upload() -> AsyncIterator[bytes]:
            for message in messages:
                yield json.dumps(message).encode() + b"\n"

        headers = {**await self._tokens.headers(), "Content-Type": "application/x-ndjson"}
        url = self._url + path
        async with self._http.post(url, data=upload(), headers=headers) as response:
            async for message in _read_messages(response):
                yield message


def to_money(minor: int) -> Message:
    """Express pence as the JSON of google.type.Money."""
    units, pence = divmod(minor, 100)
    return {"currencyCode": "GBP", "units": str(units), "nanos": pence * _NANOS_PER_PENNY}


def to_minor(money: Message | None) -> int:
    """Return the pence of the JSON of google.type.Money; 0 for none."""
    if not money:
        return 0
    return int(money.get("units", 0)) * 100 + int(money.get("nanos", 0)) // _NANOS_PER_PENNY


def reason_of(status: Message) -> str:
    """Return the reason in the JSON of google.rpc.Status, or its message where it has none."""
    reasons = [detail["reason"] for detail in status.get("details", ()) if "reason" in detail]
    return str(reasons[0] if reasons else status.get("message", "unknown"))


async def _read_messages(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    await _raise_for_status(response)
    async for line in response.content:
        message: Message = json.loads(line)
        if "error" in message:
            raise _to_error(message["error"])
        yield message


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise _to_error(await response.json(content_type=None))


def _to_error(problem: Message) -> ShopError:
    reason = problem.get("reason") or problem.get("code") or problem.get("title", "unknown")
    return ShopError(int(problem.get("status", 0)), str(reason), str(problem.get("detail", "")))
