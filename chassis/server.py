"""A gRPC server over one database, with health, reflection and a graceful stop.

The health of the service is NOT_SERVING while the database cannot be reached or is not migrated,
and while the server stops. That of the server as a whole, which has an empty name, is SERVING from
when it knows whom to trust, or after ANNOUNCE_SECONDS, until the server stops: clients call no
replica without it.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis import errors, log
from chassis.access import AccessControl
from chassis.calls_in_flight import CallsInFlight
from chassis.database import Database
from chassis.health import SERVER, STARTED
from chassis.interceptor import RpcInterceptor
from chassis.supervision import BackgroundTask
from chassis.transport import MESSAGE_OPTIONS, STREAM_OPTIONS

PROBE_INTERVAL_SECONDS = 0.5
STEADY_PROBES = 2
"""How many probes in a row must succeed to end an outage: while only some processes of PostgreSQL
respond, a single probe may succeed by chance."""
WATCH_INTERVAL_SECONDS = 1.0
ANNOUNCE_SECONDS = 10.0
"""How long clients do not call a server that does not learn whom to trust. The user service may be
down for longer, and not everything needs it."""
MAX_PROBES = 1_000
"""How many calls of health and reflection may be in flight beside those that Limits counts."""

Register = Callable[[grpc.aio.Server], None]
_State = health_pb2.HealthCheckResponse


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the calls that a server accepts."""

    max_calls: int = 1_000
    """How many calls may be in flight; those of health and reflection do not count."""
    max_method_calls: int = 500
    """How many of them may be of one method, so that a slow one does not take all."""
    max_send_seconds: float = 60.0
    """How long a client may take to read one message of a response."""
    max_connection_seconds: float = 60.0
    """How long a connection takes new calls; those in flight may end. A client that connects anew
    resolves the name of the service anew, and learns of replicas that have come."""


DEFAULT_LIMITS = Limits()


class Server:
    """A server of one proto service.

    `service` is its full name, `register` adds its servicer, and `access` decides who may call it.
    Without `credentials` it serves in plain text. The program exits if it cannot listen on the
    address.
    """

    def __init__(
        self,
        service: str,
        register: Register,
        access: AccessControl,
        database: Database,
        address: str,
        limits: Limits = DEFAULT_LIMITS,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._service = service
        self._access = access
        self._database = database
        self._health = health.aio.HealthServicer()
        self._log = log.logger()
        calls = CallsInFlight(limits.max_calls, limits.max_method_calls, limits.max_send_seconds)
        self._server = grpc.aio.server(
            interceptors=[RpcInterceptor(calls, access)],
            # gRPC would count probes as well, and refuse them when they matter most.
            maximum_concurrent_rpcs=limits.max_calls + MAX_PROBES,
            options=[
                *MESSAGE_OPTIONS,
                *STREAM_OPTIONS,
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", int(1_000 * limits.max_connection_seconds)),
                # By default a client that pings on a silent stream is disconnected.
                ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ],
        )
        register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port = self._listen(address, credentials)
        self._serving: bool | None = None
        self._good_probes = 0
        """How many probes in a row have succeeded."""
        self._probe = BackgroundTask("probe_database", self._probe_database, PROBE_INTERVAL_SECONDS)
        self._watch = BackgroundTask("watch_calls", calls.watch, WATCH_INTERVAL_SECONDS)
        self.announced = asyncio.Event()
        """Set when clients have been told to call this server."""
        self._announcement: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database and serve; health is SERVING once the database responds."""
        await self._set_serving(False)
        for name in (SERVER, STARTED):
            await self._health.set(name, _State.NOT_SERVING)
        await self._database.open()
        await self._server.start()
        self._announcement = asyncio.create_task(self._announce_start(), name="announce_start")
        self._probe.start()
        self._watch.start()
        self._log.info("server_started", service=self._service, port=self.port)

    async def announce_stop(self) -> None:
        """Tell clients that watch the health to call other servers; calls are still served."""
        if self._announcement:
            self._announcement.cancel()
            await asyncio.wait([self._announcement])
        await self._probe.stop()
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those in flight go on for a time, close the database."""
        await self.announce_stop()
        await self._server.stop(grace_seconds)
        await self._watch.stop()
        await self._database.close()
        self._log.info("server_stopped", service=self._service)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError:
            sys.exit(f"{self._service} cannot listen on {address}: is the address in use?")

    async def _announce_start(self) -> None:
        """Tell clients that watch the health to call this server."""
        try:
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await self._access.wait_until_known()
        except TimeoutError:
            self._log.warning("serving_without_revocations", service=self._service)
        await self._health.set(SERVER, _State.SERVING)
        self.announced.set()

    async def _probe_database(self) -> None:
        try:
            await self._database.check()
        except errors.Error as error:
            self._good_probes = 0
            if await self._change_serving(False):
                cause = str(error.__cause__)
                self._log.warning("database_unavailable", reason=error.reason, cause=cause)
        except Exception:
            self._good_probes = 0
            await self._change_serving(False)
            raise
        else:
            self._good_probes += 1
            steady = self._serving is None or self._good_probes >= STEADY_PROBES
            if steady and await self._change_serving(True):
                await self._health.set(STARTED, _State.SERVING)
                self._log.info("database_ready", service=self._service)

    async def _change_serving(self, serving: bool) -> bool:
        """Report to health whether the server serves, and return whether that has changed."""
        if serving is self._serving:
            return False
        self._serving = serving
        await self._set_serving(serving)
        return True

    async def _set_serving(self, serving: bool) -> None:
        await self._health.set(self._service, _State.SERVING if serving else _State.NOT_SERVING)
