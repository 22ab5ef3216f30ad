"""Clients that use every kind of route of a shop at once, and note each request that fails."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt

from tools.client.auth import Bearer
from tools.client.session import Session

PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 30.0
WATCHED_EVENTS = 100

_PASSWORD = "correct horse"  # noqa: S105 - of a shop for tests.
_STOPPING = "SERVER_STOPPING"
_LISTS = ("/v1/products", "/v1/orders", "/v1/users", "/v1/transactions")
_NDJSON = {"Content-Type": "application/x-ndjson"}

Use = Callable[[], Awaitable[str]]
"""Uses the shop once, and returns what failed."""


class MixedLoad:
    """The requests of a customer, and of the first admin, with their outcomes."""

    def __init__(self, url: str, admin: Session) -> None:
        self._url = url
        self._login = {"email": f"{uuid.uuid4().hex}@example.com", "password": _PASSWORD}
        self._admin = self._open(admin)
        self._customer = self._open(Session(self._login["email"], _PASSWORD))
        self._stranger = self._open(None)
        self._product_id = ""
        self._own_paths: list[str] = []
        self._paths: list[str] = []
        self._resume_token = ""
        self._refresh_token = ""
        self._is_over = False
        self.requests: Counter[str] = Counter()
        """How many requests of each kind are over."""
        self.resumptions = 0
        """How many streams ended because their server stopped, and were resumed."""
        self.signing_keys: set[str] = set()
        """The ids of the keys that signed refreshed tokens."""
        self.failures: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Use the shop within the block; at its end wait for the requests under way."""
        async with self._admin, self._customer, self._stranger:
            await self._prepare()
            uses: dict[str, Use] = {
                "read": self._read,
                "order": self._order,
                "list": self._list,
                "upload": self._upload,
                "refresh": self._refresh,
            }
            async with asyncio.TaskGroup() as group:
                # Without other requests it has nothing to wait for.
                watching = group.create_task(self._repeat("watch", self._watch))
                for name, use in uses.items():
                    group.create_task(self._repeat(name, use))
                try:
                    yield
                finally:
                    self._is_over = True
                    watching.cancel()

    def _open(self, session: Session | None) -> httpx.AsyncClient:
        auth = None if session is None else Bearer(session)
        return httpx.AsyncClient(
            base_url=self._url, auth=auth, timeout=TIMEOUT_SECONDS, trust_env=False
        )

    async def _prepare(self) -> None:
        registration = {**self._login, "displayName": "Ada"}
        await self._stranger.post("/v1/users:register", json=registration)
        login = await self._stranger.post("/v1/sessions:login", json=self._login)
        self._refresh_token = login.raise_for_status().json()["refreshToken"]
        product = {
            "sku": uuid.uuid4().hex,
            "name": "Paper lantern",
            "price": {"currencyCode": "GBP", "units": "1"},
            "stock": {"available": 1_000_000_000},
        }
        created = await self._admin.post("/v1/products", json=product)
        self._product_id = created.raise_for_status().json()["productId"]
        placed = await self._customer.post("/v1/orders", json=self._make_order())
        order = placed.raise_for_status().json()
        self._own_paths = [
            f"/v1/products/{self._product_id}",
            f"/v1/users/{order['userId']}",
            f"/v1/orders/{order['orderId']}",
        ]
        self._paths = ["/readyz", f"/v1/payments/{order['paymentId']}", *self._own_paths]

    async def _repeat(self, name: str, use: Use) -> None:
        while not self._is_over:
            try:
                failure = await use()
            except httpx.HTTPError as error:
                failure = repr(error)
            self.requests[name] += 1
            if failure:
                self.failures.append(f"{name}: {failure}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self) -> str:
        return await self._get(self._admin, self._paths)

    async def _get(self, client: httpx.AsyncClient, paths: Sequence[str], **options: Any) -> str:
        failures = [_describe(await client.get(path, **options)) for path in paths]
        return " ".join(filter(None, failures))

    async def _order(self) -> str:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return _describe(
            await self._customer.post("/v1/orders", json=self._make_order(), headers=headers)
        )

    async def _list(self) -> str:
        return await self._get(self._admin, _LISTS, params={"pageSize": 3})

    async def _refresh(self) -> str:
        """Refresh the tokens of a session, and use them in several services.

        Each request is from an address of its own, as the route has a rate limit.
        """
        octets = self.requests["refresh"].to_bytes(3, "big")
        body = {"refreshToken": self._refresh_token}
        headers = {"X-Forwarded-For": f"10.{'.'.join(map(str, octets))}"}
        response = await self._stranger.post(
            "/v1/sessions/current:refresh", json=body, headers=headers
        )
        if not response.is_success:
            return _describe(response)
        tokens = response.json()
        self._refresh_token = tokens["refreshToken"]
        self.signing_keys.add(jwt.get_unverified_header(tokens["accessToken"])["kid"])
        headers = {"Authorization": f"Bearer {tokens['accessToken']}"}
        return await self._get(self._stranger, self._own_paths, headers=headers)

    async def _upload(self) -> str:
        """Send chunks of orders; one that gets no response because a server stops is sent again."""
        orders = [{**self._make_order(), "idempotencyKey": uuid.uuid4().hex} for _ in range(2)]
        chunk = json.dumps({"seq": "1", "orders": orders}).encode()
        while True:
            response = await self._customer.post(
                "/v1/orders:stream", content=chunk, headers=_NDJSON
            )
            if not _is_stopping(response.text):
                break
            self.resumptions += 1
        failure = _describe(response)
        if failure:
            return failure
        results = [json.loads(line).get("results", ()) for line in response.text.splitlines()]
        placed = [result for chunk in results for result in chunk if "order" in result]
        return "" if len(placed) == len(orders) else response.text

    async def _watch(self) -> str:
        """Follow all orders until there are some new ones, or the server stops."""
        parameters = {"resumeToken": self._resume_token} if self._resume_token else {}
        async with self._admin.stream("GET", "/v1/orders:watch", params=parameters) as response:
            if not response.is_success:
                await response.aread()
                if _is_stopping(response.text):
                    self.resumptions += 1
                    return ""
                return _describe(response)
            lines = response.aiter_lines()
            for _ in range(WATCHED_EVENTS):
                line = await anext(lines, "")
                if _is_stopping(line):
                    self.resumptions += 1
                    return ""
                event: dict[str, Any] = json.loads(line or '{"error": "no end"}')
                if "error" in event:
                    return line
                self._resume_token = event["resumeToken"]
        return ""

    def _make_order(self) -> dict[str, Any]:
        line = {"productId": self._product_id, "quantity": 1}
        return {"lines": [line], "paymentMethod": "pm_card_visa"}


def _is_stopping(text: str) -> bool:
    return _STOPPING in text


def _describe(response: httpx.Response) -> str:
    """Return what is wrong with a response; streams say it in their last record."""
    if response.is_success and '"error":' not in response.text:
        return ""
    return f"{response.request.method} {response.url.path}: {response.status_code} {response.text}"
