"""Runs a service as a program: settings, database, channels, servicer, server, tasks.

The `main.py` of a service declares in a `Service` what is its own, and runs that.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import grpc
import uvloop
from google.protobuf.descriptor import ServiceDescriptor
from pydantic import Field, SecretStr, create_model

from chassis import access, client, garbage, health, log, settings, targets, tls
from chassis.access import AccessControl
from chassis.database import CONNECTIONS, Database
from chassis.discovery import Directory, Registration
from chassis.etcd import Etcd
from chassis.health import Command
from chassis.server import DEFAULT_LIMITS, Limits, Server
from chassis.supervision import BackgroundTask
from chassis.targets import target_fields
from chassis.tls_settings import find_certificates, tls_fields
from chassis.tokens import Verifier

ServicerT = TypeVar("ServicerT")


class ServiceSettings(settings.DatabaseSettings):
    """Settings of every service, each of which reads them from its own environment.

    `Service.load_settings` adds where the service and its peers are found, and its certificates.
    """

    service_database_connections: Annotated[int, Field(ge=1, le=1_000)] = CONNECTIONS
    """How many connections to its database a service holds at most, beside one for probes; and as
    many to a replica, which take one more to the database."""
    service_max_calls: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_LIMITS.max_calls
    """How many calls a service has in flight at most; one more is refused."""
    service_max_method_calls: Annotated[int, Field(ge=1, le=100_000)] = (
        DEFAULT_LIMITS.max_method_calls
    )
    """How many of them are of one method at most."""
    service_max_send_seconds: Annotated[float, Field(gt=0, le=3_600)] = (
        DEFAULT_LIMITS.max_send_seconds
    )
    """How long a client may take to read one message of a response."""
    service_max_connection_seconds: Annotated[float, Field(gt=0, le=86_400)] = (
        DEFAULT_LIMITS.max_connection_seconds
    )
    """How long a connection takes new calls, before its client connects anew."""
    service_notice_seconds: Annotated[float, Field(ge=0, le=60)] = 0.5
    """How long a service that is about to stop still takes calls, while its clients learn of it."""
    service_grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = 25.0
    """How long calls may go on after that."""
    etcd_target: targets.Target = "127.0.0.1:2379"
    """Where etcd is, if a target is such as `etcd:///user`. It is called as services are, with
    mutual TLS, and the name in its certificate is `etcd`."""

    def find_target(self, service: str) -> str:
        """Return where a service is called, by its simple proto name."""
        return targets.find_target(self, service.lower())

    def find_listener(self, service: str) -> str:
        """Return what the service listens on."""
        return targets.find_listener(self, service.lower())

    def find_address(self, service: str) -> tuple[str, int]:
        """Return the host and port on which a service listens that has no socket."""
        prefix = service.lower()
        return getattr(self, f"{prefix}_host"), getattr(self, f"{prefix}_port")

    def find_database(self, service: str) -> str:
        """Return the URL of the service's database."""
        url: SecretStr = getattr(self, f"{service.lower()}_database_url")
        return url.get_secret_value()

    def find_read_database(self, service: str) -> str | None:
        """Return the URL of a replica of the service's database, if it has one."""
        url: SecretStr | None = getattr(self, f"{service.lower()}_read_database_url")
        return url.get_secret_value() if url else None

    def find_limits(self) -> Limits:
        """Return the limits on the calls of the service."""
        return Limits(
            max_calls=self.service_max_calls,
            max_method_calls=self.service_max_method_calls,
            max_send_seconds=self.service_max_send_seconds,
            max_connection_seconds=self.service_max_connection_seconds,
        )

    def find_certificates(self, service: str) -> tls.Certificates | None:
        """Return the certificates of the service; None if it is to run in plain text."""
        return find_certificates(self, service.lower())


@dataclass(frozen=True, slots=True)
class Resources:
    """What a servicer and its background tasks use; it lives as long as the server."""

    database: Database
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    """The settings, of the class that the service declares."""
    channels: Mapping[str, grpc.aio.Channel] = field(default_factory=dict)
    """Channels to the service's peers, by their simple proto names."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is about to stop: streams should end soon after."""
    tasks: list[BackgroundTask] = field(default_factory=list)
    """Background tasks, which run while the server does. `make_servicer` adds them."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What `make_servicer` opens beside these; closed when the server has stopped."""


@dataclass(frozen=True, slots=True)
class Service(Generic[ServicerT]):
    """A proto service as a program.

    The variables of a proto service begin with its simple name: USERSERVICE_HOST and
    USERSERVICE_PORT are where it listens, unless USERSERVICE_TARGET is a socket (see
    `chassis.targets`), USERSERVICE_DATABASE_URL is its database (or else
    USERSERVICE_DATABASE_PASSWORD is the password of its role on the server of POSTGRES_*),
    USERSERVICE_READ_DATABASE_URL may be a streaming replica of that (see `chassis.read_replica`),
    and USERSERVICE_TLS_DIRECTORY has its certificate, in which it has the name `user`.
    """

    descriptor: ServiceDescriptor
    add_to_server: Callable[[ServicerT, grpc.aio.Server], None]
    """The generated function that adds the servicer to a server."""
    make_servicer: Callable[[Resources], ServicerT]
    make_verifier: Callable[[Resources, ServicerT], Verifier]
    """Makes what verifies the tokens of its callers, and adds the tasks that it needs."""
    database_name: str
    """The database on the server of POSTGRES_*, where USERSERVICE_DATABASE_URL is not set."""
    peers: Sequence[str] = ()
    """The simple names of the proto services that it calls."""
    settings_class: type[ServiceSettings] = ServiceSettings
    """The settings that the service has beside those of every service."""

    def run(self) -> None:
        """Run the command of the command line; exit with status 78 at once if a setting is bad."""
        command = health.parse_command(tls.server_name(self.descriptor.name), sys.argv[1:])
        config = self.load_settings()
        log.configure(config.log_format, config.log_level)
        uvloop.run(self._run(config) if command is Command.SERVE else self._check(config, command))

    def load_settings(self) -> ServiceSettings:
        """Read the settings, or end the program as `settings.load` does."""
        own = self.descriptor.name.lower()
        peers = [peer.lower() for peer in self.peers]
        fields: dict[str, Any] = {
            f"{own}_database_password": (settings.Password | None, None),
            f"{own}_database_url": (
                settings.DatabaseUrl,
                settings.own_database(f"{own}_database_password", self.database_name),
            ),
            f"{own}_read_database_url": (settings.DatabaseUrl | None, None),
            **target_fields(own, listens=True),
            **{name: field for peer in peers for name, field in target_fields(peer).items()},
            **tls_fields(own, [own, *peers], tls.server_name(own)),
            "own_prefix": (ClassVar[str], f"{own}_".upper()),
        }
        name = f"{self.descriptor.name}Settings"
        return settings.load(create_model(name, __base__=self.settings_class, **fields))

    def make_server(
        self,
        resources: Resources,
        address: str,
        limits: Limits = DEFAULT_LIMITS,
        credentials: grpc.ServerCredentials | None = None,
    ) -> Server:
        """Make a servicer and the server around it, in plain text without credentials.

        Raises:
            ValueError: an RPC does not declare who may call it.
        """
        servicer = self.make_servicer(resources)
        rules = access.read_rules(self.descriptor)
        control = AccessControl(rules, self.make_verifier(resources, servicer))
        register = partial(self.add_to_server, servicer)
        name, database = self.descriptor.full_name, resources.database
        return Server(name, register, control, database, address, limits, credentials)

    async def _check(self, config: ServiceSettings, command: Command) -> None:
        name = self.descriptor.name
        asked = {
            Command.HEALTH: health.SERVER,
            Command.STARTED: health.STARTED,
            Command.READY: self.descriptor.full_name,
        }
        # Where it listens on all addresses, this machine's own is among them.
        listener, certificates = config.find_listener(name), config.find_certificates(name)
        async with client.open_channel(listener, certificates, name) as channel:
            await health.check(channel, asked[command])

    async def _run(self, config: ServiceSettings) -> None:
        """Serve until a signal, announce the end, and then stop everything in reverse order."""
        name = self.descriptor.name
        database = Database(
            config.find_database(name),
            connections=config.service_database_connections,
            replica_url=config.find_read_database(name),
        )
        certificates = config.find_certificates(name)
        etcd = Etcd(config.etcd_target, certificates)
        directory = Directory(etcd)
        channels = {
            peer: client.open_channel(
                directory.resolve(config.find_target(peer)), certificates, peer
            )
            for peer in self.peers
        }
        resources = Resources(database, config, channels)
        credentials = tls.server_credentials(certificates) if certificates else None
        listener = config.find_listener(name)
        server = self.make_server(resources, listener, config.find_limits(), credentials)
        stopping = _follow_signals()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(etcd.close)
            for channel in channels.values():
                stack.push_async_callback(channel.close)
            stack.push_async_callback(directory.close)
            await directory.open()
            await stack.enter_async_context(resources.stack)
            await server.start()
            stack.push_async_callback(server.stop, config.service_grace_seconds)
            for task in resources.tasks:
                task.start()
                stack.push_async_callback(task.stop)
            garbage.make_collections_rare()
            registration = _register(config, name, etcd, server.announced)
            await stopping.wait()
            if registration:
                await registration.stop()
            await server.announce_stop()
            # Whether the last client has heard it cannot be known.
            await asyncio.sleep(config.service_notice_seconds)
            resources.draining.set()


def _follow_signals() -> asyncio.Event:
    """Return an event that a signal to stop sets."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _register(
    config: ServiceSettings, service: str, etcd: Etcd, announced: asyncio.Event
) -> Registration | None:
    """Register the service in etcd once it is announced, if its target is there."""
    name = targets.registered_name(config.find_target(service))
    if not name:
        return None
    registration = Registration(etcd, name, *config.find_address(service), announced)
    registration.start()
    return registration
