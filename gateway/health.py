"""Liveness and readiness of the gateway, for load balancers and start-up scripts."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import falcon.asgi
import orjson

from chassis import errors
from chassis.database import Database
from gateway.upstream.channels import Upstream

KEEP_SECONDS = 0.5
"""How long what a probe has found is the response to further requests."""


class Liveness:
    """/healthz: the process responds."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with 200."""
        resp.data = b'{"status":"ok"}'

    on_head = on_get


@dataclass(slots=True, eq=False)
class Readiness:
    """/readyz: the required services serve, and the gateway's own database responds.

    Services and database are probed concurrently, each for at most about a second. All requests of
    that time, and those of half a second after it, share the probe.
    """

    upstream: Upstream
    database: Database
    required: Collection[str]
    _probe: asyncio.Task[tuple[dict[str, bool], bool]] | None = field(default=None, init=False)
    _probed_at: float = field(default=0.0, init=False)

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with 200, or with 503 if something is missing; the body has the state of each."""
        services, database = await self._find_state()
        ready = database and all(services[name] for name in self.required)
        resp.status = 200 if ready else 503
        resp.data = orjson.dumps(
            {
                "status": "ready" if ready else "not ready",
                "services": services,
                "database": database,
            }
        )

    on_head = on_get

    async def _find_state(self) -> tuple[dict[str, bool], bool]:
        """Return whether each service serves, and whether the database responds."""
        is_old = time.monotonic() >= self._probed_at + KEEP_SECONDS
        if self._probe is None or (self._probe.done() and is_old):
            self._probe = asyncio.create_task(self._probe_all())
        return await asyncio.shield(self._probe)

    async def _probe_all(self) -> tuple[dict[str, bool], bool]:
        try:
            return await asyncio.gather(self.upstream.check(), self._database_responds())
        finally:
            self._probed_at = time.monotonic()

    async def _database_responds(self) -> bool:
        try:
            await self.database.check()
        except errors.Error:
            return False
        return True
