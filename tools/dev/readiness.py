"""Whether a process is ready to work: each wait returns when it is.

None of them gives up: the caller does.
"""

import asyncio
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2

from chassis.secure_channel import open_channel
from chassis.tls import Certificates
from tools.postgres.server import Server

_POLL_SECONDS = 0.02
_REQUEST_TIMEOUT_SECONDS = 5.0
_EXCERPT_CHARACTERS = 200
# A server that is about to listen is asked again soon; a proxy has no business on the way to it.
_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)


async def wait_for_postgres(server: Server, process_id: int) -> None:
    """Return when the server that runs as the process accepts connections."""
    while not server.is_ready(process_id):  # noqa: ASYNC110 - it is another process.
        await asyncio.sleep(_POLL_SECONDS)


async def wait_for_grpc(address: str, certificates: Certificates | None, name: str) -> None:
    """Return when the service of that name reports SERVING for itself, as it has its database then.

    Without certificates it is asked in plain text.
    """
    channel: Any
    request = health_pb2.HealthCheckRequest(service=f"bazaar.{name}.v1.{name.capitalize()}Service")
    async with open_channel(address, _CHANNEL_OPTIONS, certificates, name) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            try:
                async for response in watch(request, wait_for_ready=True):
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError:  # It listens, and is not there yet: ask again.
                await asyncio.sleep(_POLL_SECONDS)


class HttpReadiness:
    """Polls a /readyz such as the gateway's, and remembers what was missing then."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._finding = "it was not asked yet"

    async def wait(self) -> None:
        """Return when the response is 200."""
        async with httpx.AsyncClient(timeout=_REQUEST_TIMEOUT_SECONDS, trust_env=False) as client:
            while not await self._ask(client):  # noqa: ASYNC110 - it is another process.
                await asyncio.sleep(_POLL_SECONDS)

    def explain(self) -> str:
        """Return, for people, what was missing at the last poll."""
        return f"{self._url}: {self._finding}"

    async def _ask(self, client: httpx.AsyncClient) -> bool:
        try:
            response = await client.get(self._url)
        except httpx.HTTPError as error:
            self._finding = f"no response, {error!r}"
            return False
        self._finding = f"status {response.status_code}{_describe_missing(response)}"
        return response.status_code == httpx.codes.OK


def _describe_missing(response: httpx.Response) -> str:
    """Name the services that are not ready, and the database if it is not."""
    try:
        body = response.json()
        missing = [name for name, ready in body["services"].items() if not ready]
        missing += [] if body["database"] else ["the gateway's database"]
    except (ValueError, LookupError, TypeError, AttributeError):  # Something else listens there.
        return f", {response.text[:_EXCERPT_CHARACTERS]}"
    return f", not ready: {', '.join(missing)}"
