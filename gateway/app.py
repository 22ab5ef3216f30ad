"""The ASGI application: Falcon with one sink for all routes, its start and its stop.

`create_app` takes its dependencies; `get_app` makes them from the environment.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import falcon
import falcon.asgi

from chassis import log
from gateway.calls.concurrency_limit import ConcurrencyLimit
from gateway.calls.formats import AbortResponseError
from gateway.calls.handler import Handler
from gateway.calls.open_streams import OpenStreams
from gateway.calls.streaming import StreamCalls
from gateway.calls.unary import UnaryCalls
from gateway.dependencies import Dependencies, Plan, connect
from gateway.docs import page
from gateway.health import Liveness, Readiness
from gateway.http.asgi import Send
from gateway.http.client_address import TrustedProxies
from gateway.http.compression import GzipSender, accepts_gzip
from gateway.http.cors import CrossOrigin
from gateway.http.error_handlers import add_error_handlers
from gateway.http.exchange import SCOPE_KEY, Exchange
from gateway.openapi import resource
from gateway.openapi.document import make_document
from gateway.rates.limiter import RateLimiter
from gateway.rates.quotas import parse_quotas
from gateway.routing.routes import Route, compile_routes
from gateway.routing.templates import PathTree
from gateway.server.admission import Admission, AdmissionLimits
from gateway.server.limits import ConnectionLimits
from gateway.server.tls import ServerCertificate
from gateway.settings import GatewaySettings, load, load_descriptor_set, refuse_descriptor_set
from gateway.upstream.descriptors import DescriptorSet, DescriptorSetError

QUIET_PATHS = ("/healthz", "/readyz")

OWN_PATHS = (*QUIET_PATHS, resource.PATH, page.PATH)
"""The gateway's own paths, which no http rule may have."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """A middleware of Falcon that counts every request but those for health."""

    limiter: RateLimiter

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        """Refuse a request that exceeds a quota of its client or account."""
        if req.path not in QUIET_PATHS:
            await self.limiter.admit(req.scope[SCOPE_KEY])


class GatewayApp(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """Falcon; around every request there is an Exchange, the access log and compression."""

    def __init__(
        self,
        streams: OpenStreams,
        certificate: ServerCertificate | None,
        middleware: Sequence[object],
        connection_limits: ConnectionLimits,
        admission_limits: AdmissionLimits,
        proxies: TrustedProxies,
        own_paths: Collection[str],
        *,
        compression: bool,
    ) -> None:
        super().__init__(middleware=middleware)  # type: ignore[arg-type]
        self.connection_limits = connection_limits
        """The limits on connections that the server of the application enforces."""
        self.certificate = certificate
        """What that server shows to clients; None without TLS."""
        exempt = frozenset(path.encode() for path in QUIET_PATHS)
        self.admission = Admission(admission_limits, exempt, proxies)
        """Counts requests and connections in that server."""
        self._streams = streams
        self._proxies = proxies
        self._own_paths = own_paths
        self._compression = compression

    async def __call__(  # type: ignore[override]
        self, scope: Any, receive: Any, send: Any
    ) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._proxies)
        if scope["path"] in self._own_paths:
            exchange.path = scope["path"]
        exchange.bind_log()
        try:
            # Falcon would parse the query, which is parsed by the descriptors instead.
            await super().__call__(
                {**scope, SCOPE_KEY: exchange, "query_string": b""},
                _empty_event,
                self._sender(scope, exchange),
            )
        except AbortResponseError:
            exchange.abandoned = True
        except asyncio.CancelledError:
            if not exchange.abandoned:
                raise
        finally:
            if scope["path"] not in QUIET_PATHS:
                exchange.write_log()

    def _sender(self, scope: Mapping[str, Any], exchange: Exchange) -> Send:
        if not self._compression:
            return exchange.send
        encodings = exchange.list_header(b"accept-encoding")
        exchange.sets_vary = True
        if encodings is None or scope["method"] == "HEAD" or not accepts_gzip(encodings):
            return exchange.send
        return GzipSender(exchange.send).send

    def drain(self) -> None:
        """Prepare to stop: bring open streams to an end."""
        self._streams.drain()


def create_app(plan: Plan, dependencies: Dependencies) -> GatewayApp:
    """Make the application."""
    settings = plan.settings
    middleware: list[object] = [dependencies]
    if settings.apigateway_cors_origins:
        middleware.append(CrossOrigin(settings.apigateway_cors_origins))
    limiter = _make_limiter(settings, dependencies)
    middleware.append(RateLimits(limiter))
    limits = ConnectionLimits(
        max_connections=settings.apigateway_max_connections,
        max_age_seconds=settings.apigateway_connection_seconds,
    )
    contents = page.find_contents()
    app = GatewayApp(
        dependencies.streams,
        dependencies.certificate,
        middleware,
        limits,
        AdmissionLimits(
            max_requests=settings.apigateway_max_requests,
            max_client_requests=settings.apigateway_max_client_requests,
            max_client_connections=settings.apigateway_max_client_connections,
        ),
        TrustedProxies(settings.apigateway_trusted_proxies),
        {*OWN_PATHS, *contents},
        compression=settings.apigateway_compression,
    )
    add_error_handlers(app)
    app.add_route("/healthz", Liveness())
    required = settings.required_services(plan.targets)
    app.add_route("/readyz", Readiness(dependencies.upstream, dependencies.database, required))
    app.add_route(resource.PATH, resource.OpenApi(plan.document))
    for path, content in contents.items():
        app.add_route(path, content)
    handler = _make_handler(plan, dependencies, limiter)

    async def serve(req: falcon.asgi.Request, resp: falcon.asgi.Response, **_: str) -> None:
        await handler.serve(req.scope[SCOPE_KEY], req.method, resp)

    app.add_sink(serve, "/")  # type: ignore[arg-type]
    return app


def _make_limiter(settings: GatewaySettings, dependencies: Dependencies) -> RateLimiter:
    return RateLimiter(
        dependencies.counters,
        dependencies.accounts,
        client_quotas=parse_quotas("client", settings.apigateway_rate_limit),
        account_quotas=parse_quotas("account", settings.apigateway_account_rate_limit),
        limits_methods=settings.apigateway_method_rate_limits,
    )


def _make_handler(plan: Plan, dependencies: Dependencies, limiter: RateLimiter) -> Handler:
    settings = plan.settings
    open_bodies = ConcurrencyLimit(
        "bodies that it waits for",
        "TOO_MANY_BODIES",
        max_all=settings.apigateway_max_calls,
        max_of_one=settings.apigateway_max_client_bodies,
    )
    return Handler(
        routes=plan.routes,
        unary_calls=UnaryCalls(
            upstream=dependencies.upstream,
            records=dependencies.records,
            accounts=dependencies.accounts,
            rate_limiter=limiter,
            call_timeout_seconds=settings.apigateway_call_timeout_seconds,
            open_bodies=open_bodies,
            calls=ConcurrencyLimit(
                "calls in flight",
                "TOO_MANY_CALLS",
                max_all=settings.apigateway_max_calls,
                max_of_one=settings.apigateway_max_method_calls,
            ),
        ),
        stream_calls=StreamCalls(
            dependencies.upstream, dependencies.streams, open_bodies, dependencies.accounts
        ),
        rate_limiter=limiter,
    )


def load_routes() -> tuple[DescriptorSet, PathTree[Route]]:
    """Read the descriptor set, or end the program with status 78."""
    descriptors = load_descriptor_set()
    try:
        return descriptors, compile_routes(descriptors, OWN_PATHS)
    except DescriptorSetError as error:
        refuse_descriptor_set(str(error))


def load_plan() -> Plan:
    """Read settings and descriptor set, or end the program with status 78."""
    descriptors, routes = load_routes()
    services = {rpc.service for rpc in descriptors.methods()}
    settings = load(services)
    document = make_document(descriptors, routes)
    targets = settings.targets(services)
    return Plan(descriptors, routes, settings, targets, document, settings.certificates())


def get_app() -> GatewayApp:
    """Make the application from the environment, or end the program with status 78."""
    plan = load_plan()
    log.configure(plan.settings.log_format, plan.settings.log_level)
    return create_app(plan, connect(plan))


async def _empty_event() -> dict[str, object]:
    """Return the first event that Falcon waits for; the body is read from the server itself.

    So a request is served before its body has begun.
    """
    return {"type": "http.request", "body": b"", "more_body": True}
