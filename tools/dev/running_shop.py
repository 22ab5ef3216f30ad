"""A running shop, used from outside by programs that measure it: its API, its logs, latencies."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tools.client.auth import Bearer
from tools.client.session import Session
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD

LINES = 10
"""How many products a shop gets by default, for orders of as many lines."""


@dataclass
class Latencies:
    """How many seconds requests took, by the status of the response."""

    seconds: dict[int, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(
            f"{len(taken)} x {status}: p50 {_percentile(taken, 0.5):.3f} s,"
            f" p99 {_percentile(taken, 0.99):.3f} s, most {max(taken):.3f} s"
            for status, taken in sorted(self.seconds.items())
        )


class Shop:
    """The API and the logs of a running shop, to its admin, and products to order."""

    def __init__(
        self, environment: dict[str, str], client: httpx.AsyncClient, session: Session
    ) -> None:
        self.environment = environment
        self.client = client
        self.product_ids: list[str] = []
        self._session = session

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        """The metadata of gRPC calls: the access token of the last request."""
        return (("authorization", f"Bearer {self._session.access_token}"),)

    async def fill(self, products: int) -> None:
        """Add the products."""
        for number in range(products):
            product = {
                "sku": f"SKU-{number}",
                "name": "Paper lantern",
                "price": {"currencyCode": "GBP", "units": "1"},
                "stock": {"available": 1_000_000},
            }
            self.product_ids.append((await self._create("/v1/products", product))["productId"])

    def database_url(self, name: str) -> str:
        """Return the URL of a database of the shop."""
        user, password = self.environment["POSTGRES_USER"], self.environment["POSTGRES_PASSWORD"]
        port = self.environment["POSTGRES_PORT"]
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{name}"

    def find_in_log(self, program: str, text: str) -> list[str]:
        """Return the lines of a program's log that contain a text."""
        directory = Path(self.environment["BUILD_WORKSPACE_DIRECTORY"], ".data", "logs")
        log = (directory / f"{program}.log").read_text(encoding="utf-8", errors="replace")
        return [line for line in log.splitlines() if text in line]

    def count_in_log(self, program: str, text: str) -> int:
        """Return how many lines of a program's log contain a text."""
        return len(self.find_in_log(program, text))

    async def order(self) -> int:
        """Place an order of one line, and return the status."""
        line = {"productId": self.product_ids[0], "quantity": 1}
        order = {"paymentMethod": "pm_card_visa", "lines": [line]}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return (await self.client.post("/v1/orders", json=order, headers=headers)).status_code

    async def get(self, path: str) -> int:
        """Return the status of a GET."""
        return (await self.client.get(path)).status_code

    async def _create(self, path: str, resource: dict[str, Any]) -> dict[str, Any]:
        response = await self.client.post(path, json=resource)
        response.raise_for_status()
        created: dict[str, Any] = response.json()
        return created


@contextlib.asynccontextmanager
async def open_shop(
    environment: dict[str, str], url: str, products: int = LINES
) -> AsyncIterator[Shop]:
    """Log in as the admin, and add the products."""
    session = Session(ADMIN_EMAIL, ADMIN_PASSWORD)
    async with httpx.AsyncClient(
        base_url=url,
        auth=Bearer(session),
        timeout=60,
        trust_env=False,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        shop = Shop(environment, client, session)
        await shop.fill(products)
        yield shop


@contextlib.asynccontextmanager
async def requesting(
    request: Callable[[], Awaitable[int]], pause_seconds: float
) -> AsyncIterator[Latencies]:
    """Within the block begin a request after each pause, whether earlier ones are done or not."""
    found = Latencies()

    async def one() -> None:
        began = time.monotonic()
        status = await request()
        found.seconds.setdefault(status, []).append(time.monotonic() - began)

    async def many(group: asyncio.TaskGroup) -> None:
        while True:
            group.create_task(one())
            await asyncio.sleep(pause_seconds)

    async with asyncio.TaskGroup() as group:
        beginning = group.create_task(many(group))
        yield found
        beginning.cancel()


def process_name(process: int) -> str:
    """Return what a process is: `order/main.py`, or `postgres orderdb` for a connection to it."""
    words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if words[0].startswith("postgres: "):
        # "postgres: shop orderdb 127.0.0.1(40000) idle", or "postgres: checkpointer ".
        title = words[0].split()
        return f"postgres {title[2 if len(title) > 3 else 1]}"
    scripts = [word for word in words if word.endswith(".py")]
    return "/".join((scripts or words)[0].split("/")[-2:])


def _percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]
