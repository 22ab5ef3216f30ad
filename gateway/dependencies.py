"""What one process needs to serve: its connections, counters, certificate and background tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.database import Database
from chassis.jwks import REFRESH_SECONDS
from chassis.supervision import BackgroundTask
from chassis.tls import Certificates
from gateway.calls.idempotency import RENEW_SECONDS, SWEEP_SECONDS, IdempotencyRecords
from gateway.calls.open_streams import OpenStreams
from gateway.calls.signing_keys import find_keys
from gateway.http.accounts import Accounts
from gateway.rates.store import Counters
from gateway.routing.routes import Route
from gateway.routing.templates import PathTree
from gateway.server.tls import FOLLOW_SECONDS, ServerCertificate
from gateway.settings import GatewaySettings
from gateway.upstream.channels import Upstream
from gateway.upstream.descriptors import DescriptorSet

DRAIN_SECONDS = 20.0
"""How long a stream may continue when the server stops; less than the server waits for requests."""


@dataclass(frozen=True)
class Plan:
    """What is fixed before any worker starts: the routes to serve, and the settings."""

    descriptors: DescriptorSet
    routes: PathTree[Route]
    settings: GatewaySettings
    targets: Mapping[str, str]
    document: Mapping[str, Any]
    """The OpenAPI document of the routes."""
    certificates: Certificates | None = None
    """What the gateway shows the services; without it they are called in plain text."""


@dataclass(frozen=True)
class Dependencies:
    """The connections and the state of one process and its event loop.

    They are a middleware of Falcon, which opens and closes them in the process that serves.
    """

    upstream: Upstream
    database: Database
    records: IdempotencyRecords
    streams: OpenStreams
    counters: Counters
    """The requests that rate limits have counted."""
    accounts: Accounts
    certificate: ServerCertificate | None
    """What clients of the gateway see; None without TLS."""
    tasks: Sequence[BackgroundTask]

    async def process_startup(self, _scope: object, _event: object) -> None:
        """Open everything; neither services nor database need to be up yet."""
        await self.upstream.open()
        await self.database.open()
        for task in self.tasks:
            task.start()

    async def process_shutdown(self, _scope: object, _event: object) -> None:
        """Close everything."""
        for task in self.tasks:
            await task.stop()
        await self.upstream.close()
        await self.counters.close()
        await self.database.close()


def connect(plan: Plan, drain_seconds: float = DRAIN_SECONDS) -> Dependencies:
    """Make the dependencies; they open when the application starts."""
    settings = plan.settings
    database = Database(
        settings.database_url.get_secret_value(),
        connections=settings.apigateway_database_connections,
    )
    records = IdempotencyRecords(database, settings.apigateway_idempotency_seconds)
    tasks = [
        BackgroundTask("sweep_idempotency_records", records.sweep, SWEEP_SECONDS),
        BackgroundTask("renew_idempotency_claims", records.renew, RENEW_SECONDS),
    ]
    certificate = settings.edge_certificate()
    if certificate is not None:
        tasks.append(BackgroundTask("follow_certificate", certificate.follow, FOLLOW_SECONDS))
    upstream = Upstream(
        plan.descriptors.methods(), plan.targets, plan.certificates, settings.etcd_target
    )
    keys = find_keys(plan.routes, upstream)
    if keys is not None:
        tasks.append(BackgroundTask("refresh_keys", keys.refresh, REFRESH_SECONDS))
    return Dependencies(
        upstream=upstream,
        database=database,
        records=records,
        streams=OpenStreams(
            max_streams=settings.apigateway_max_streams,
            max_client_streams=settings.apigateway_max_client_streams,
            idle_seconds=settings.apigateway_stream_idle_seconds,
            drain_seconds=drain_seconds,
        ),
        counters=Counters(settings.apigateway_rate_limit_url.get_secret_value()),
        accounts=Accounts(keys),
        certificate=certificate,
        tasks=tasks,
    )
