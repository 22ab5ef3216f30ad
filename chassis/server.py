"""A gRPC server: what it offers, whether it can serve, and how it stops.

Health follows the database: NOT_SERVING while it cannot be reached or is not migrated, and while
the server stops.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis import errors, log
from chassis.client import MAX_MESSAGE_BYTES
from chassis.database import Database
from chassis.interceptor import RpcInterceptor

GRACE_SECONDS = 25.0
PROBE_SECONDS = 1.0
MAX_CONCURRENT_RPCS = 1_000

Register = Callable[[grpc.aio.Server], None]


class Server:
    """A server on one address, with health and reflection, over one database.

    `service` is the full name of the proto service; `register` adds its servicer. An address that
    cannot be listened on ends the program.
    """

    def __init__(self, service: str, register: Register, database: Database, address: str) -> None:
        self._service = service
        self._database = database
        self._health = health.aio.HealthServicer()
        self._log = log.logger()
        self._server = grpc.aio.server(
            interceptors=[RpcInterceptor()],
            maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # By default a client that pings on a silent stream is turned away.
                ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ],
        )
        register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._listen(address)
        self._probe: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database and serve; health tells when the database is there."""
        await self._set_serving(False)
        await self._database.open()
        await self._server.start()
        self._probe = asyncio.create_task(self._watch_database())
        self._log.info("server_started", service=self._service, port=self.port)

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Refuse new calls, finish those in flight, close the database."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
        await self._database.close()
        self._log.info("server_stopped", service=self._service)

    def _listen(self, address: str) -> int:
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError:
            sys.exit(f"{self._service} cannot listen on {address}: is the address in use?")

    async def _watch_database(self) -> None:
        serving = None
        while True:
            trouble = await self._database_trouble()
            if serving is not (trouble is None):
                serving = trouble is None
                await self._set_serving(serving)
                if trouble is None:
                    self._log.info("database_ready", service=self._service)
                else:
                    self._log.warning(
                        "database_unavailable", reason=trouble.reason, cause=str(trouble.__cause__)
                    )
            await asyncio.sleep(PROBE_SECONDS)

    async def _database_trouble(self) -> errors.Error | None:
        try:
            await self._database.check()
        except errors.Error as error:
            return error
        return None

    async def _set_serving(self, serving: bool) -> None:
        state = health_pb2.HealthCheckResponse
        value = state.SERVING if serving else state.NOT_SERVING
        for name in ("", self._service):
            await self._health.set(name, value)


async def serve(
    server: Server, draining: asyncio.Event, channels: Sequence[grpc.aio.Channel] = ()
) -> None:
    """Serve until SIGTERM or SIGINT; then set `draining`, stop gracefully, close the channels."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, draining.set)
    async with AsyncExitStack() as stack:
        for channel in channels:
            stack.push_async_callback(channel.close)
        await server.start()
        stack.push_async_callback(server.stop)
        await draining.wait()
