"""Sends the webhooks of a fake provider: repeated until they are accepted, with faults when asked.

What an event says and how it is signed is the provider's business: here it is bytes.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

import httpx

TIMEOUT_SECONDS = 10.0
MAX_ATTEMPTS = 10
FIRST_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 2.0
MAX_CONCURRENT = 16
MAX_PENDING = 100_000
_TLS = ssl.create_default_context()
"""Made once, as that takes long."""

Sign = Callable[[bytes], Mapping[str, str]]
"""Returns the headers of one delivery of an event, its signature among them."""


@dataclass(frozen=True, slots=True)
class WebhookFaults:
    """How probable it is that an event is lost, sent twice or late, from 0 to 1."""

    lose: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_seconds: float = 1.0
    """How late at most: later events overtake a late one."""
    hold: bool = False
    """Keep all events until faults are set without it; then the newest is sent first."""
    seed: int = 0


class Webhooks:
    """Sends events to `url`, at most MAX_ATTEMPTS times each; without a URL, they are dropped.

    It belongs to the event loop that serves the fake. As a middleware of Falcon, it stops with the
    application.
    """

    def __init__(self, sign: Sign, url: str = "") -> None:
        self.url = url
        self._sign = sign
        self._faults = WebhookFaults()
        self._random = random.Random(0)  # noqa: S311
        self._held: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, verify=_TLS)

    def set_faults(self, faults: WebhookFaults) -> None:
        """Replace the faults; send the held events unless they are still to be held."""
        self._faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311
        if self._held and not faults.hold:
            self._start(self._deliver_in_turn(self._held[::-1]))
            self._held = []

    def send(self, event: bytes) -> None:
        """Send an event in the background."""
        if len(self._tasks) + len(self._held) >= MAX_PENDING or self._happens(self._faults.lose):
            return
        if self._faults.hold:
            self._held.append(event)
        elif self.url:
            for _ in range(2 if self._happens(self._faults.duplicate) else 1):
                late = self._happens(self._faults.late)
                delay_seconds = self._random.uniform(0, self._faults.late_seconds) if late else 0.0
                self._start(self._deliver(event, delay_seconds))

    async def process_shutdown(self, _scope: object, _event: object) -> None:
        """Stop: what is still to be sent is lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def _start(self, sending: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_in_turn(self, events: Sequence[bytes]) -> None:
        for event in events:
            await self._deliver(event)

    async def _deliver(self, event: bytes, delay_seconds: float = 0.0) -> None:
        await asyncio.sleep(delay_seconds)
        for attempt in range(MAX_ATTEMPTS):
            async with self._slots:
                if await self._post(event):
                    return
            await asyncio.sleep(min(FIRST_DELAY_SECONDS * 2**attempt, MAX_DELAY_SECONDS))

    async def _post(self, event: bytes) -> bool:
        """Return whether the receiver has accepted the event."""
        headers = {"content-type": "application/json", **self._sign(event)}
        try:
            response = await self._client.post(self.url, content=event, headers=headers)
        except httpx.HTTPError:
            return False
        return response.is_success
