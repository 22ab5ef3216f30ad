"""How to tell that a process is ready to work: each function returns when it is.

None of them gives up: the caller does.
"""

import asyncio
import http.client

import grpc
from grpc_health.v1 import health_pb2

from tools.postgres.server import Server

_POLL_SECONDS = 0.02
_REQUEST_TIMEOUT_SECONDS = 5.0
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


async def wait_for_grpc(address: str) -> None:
    """Return when the gRPC health service at the address says SERVING."""
    async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            try:
                async for answer in watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError:  # It listens, and is not there yet: ask again.
                await asyncio.sleep(_POLL_SECONDS)


async def wait_for_http(host: str, port: int, path: str) -> None:
    """Return when a GET of the path is answered with 200."""
    while True:
        status = await asyncio.to_thread(_get_status, host, port, path)
        if status == http.HTTPStatus.OK:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _get_status(host: str, port: int, path: str) -> int | None:
    """Return the status of the answer, or None where there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=_REQUEST_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
