"""Restarts the replicas of services one by one while clients use the shop."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tools.client.session import Session
from tools.dev.mixed_load import MixedLoad
from tools.dev.replicas import HOSTS, ReplicatedShop
from tools.dev.testing import ADMIN_EMAIL, ADMIN_PASSWORD

SETTLE_SECONDS = 2.5
"""How long a replica serves before the other one is restarted (minReadySeconds of Kubernetes).

Longer than clients wait before they connect again: see the backoff in chassis.client.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened in some restarts."""

    load: MixedLoad
    statuses: Sequence[int | None]
    """The exit status of each replica that was stopped."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no request failed, and every replica ended as it should."""
        return not self.load.failures and set(self.statuses) == {0}

    def __str__(self) -> str:
        requests = ", ".join(f"{count} x {name}" for name, count in self.load.requests.items())
        lines = [
            f"{len(self.statuses)} restarts in {self.seconds:.0f} s,"
            f" {len(self.load.failures)} failed of {requests},"
            f" {self.load.resumptions} streams resumed",
            f"exit statuses: {set(self.statuses)}",
            *self.load.failures,
        ]
        return "\n".join(lines)


async def restart_in_turn(
    environment: Mapping[str, str], services: Sequence[str], restarts: int
) -> Result:
    """Start a shop, and restart the replicas of each service so many times under load."""
    statuses: list[int | None] = []
    async with AsyncExitStack() as stack:
        shop = ReplicatedShop(environment, print)
        await shop.start(stack)
        load = MixedLoad(shop.url, Session(ADMIN_EMAIL, ADMIN_PASSWORD))
        began = time.monotonic()
        async with load.running():
            for number in range(restarts):
                for service in services:
                    statuses.append(await shop.restart(service, number % len(HOSTS)))
                    await asyncio.sleep(SETTLE_SECONDS)
    return Result(load, statuses, time.monotonic() - began)
