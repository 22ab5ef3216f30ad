"""Liveness and readiness of the gateway, for load balancers and start-up scripts."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import falcon.asgi
import orjson

from chassis import errors
from chassis.database import Database
from gateway.upstream.channels import Upstream


class Liveness:
    """/healthz: the process responds."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with 200."""
        resp.data = b'{"status":"ok"}'

    on_head = on_get


@dataclass(frozen=True, slots=True)
class Readiness:
    """/readyz: the required services serve, and the gateway's own database responds.

    Services and database are probed concurrently, each for at most about a second.
    """

    upstream: Upstream
    database: Database
    required: Collection[str]

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Respond with 200, or with 503 if something is missing; the body has the state of each."""
        services, database = await asyncio.gather(self.upstream.check(), self._database_responds())
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

    async def _database_responds(self) -> bool:
        try:
            await self.database.check()
        except errors.Error:
            return False
        return True
