"""Which services make a gateway unready, and which do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from probe.v1 import probe_pb2

from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.serving import listening

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"

SERVICE = "probe.v1.ProbeService"
FLOOD = 300
SICK = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def serve_nothing(status: int | None) -> AsyncIterator[int]:
    """Serve on a free port with a health service that says one thing, or without one."""
    server = grpc.aio.server()
    if status is not None:
        checks = health.aio.HealthServicer()
        await checks.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    async with listening(server) as port:
        yield port


async def read_readiness(port: int, database_url: str, required: set[str]) -> httpx.Response:
    app = make_app(
        descriptor_set(probe_pb2.DESCRIPTOR),
        port,
        database_url=database_url,
        apigateway_ready_services=frozenset(required),
    )
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        return await client.get("/readyz")


@pytest.mark.parametrize(
    ("status", "required", "serves", "ready"),
    [
        (SICK, {"*"}, False, 503),
        (SICK, {SERVICE}, False, 503),
        (SICK, set(), False, 200),
        # Without a health service, being reachable counts.
        (None, {"*"}, True, 200),
    ],
)
async def test_only_required_services_make_a_gateway_unready(
    clean_database_url: str, status: int | None, required: set[str], *, serves: bool, ready: int
) -> None:
    async with serve_nothing(status) as port:
        response = await read_readiness(port, clean_database_url, required)
    assert response.json()["services"] == {SERVICE: serves}
    assert response.status_code == ready


async def test_service_that_cannot_be_reached_does_not_serve(clean_database_url: str) -> None:
    response = await read_readiness(1, clean_database_url, {"*"})
    assert (response.status_code, response.json()["services"]) == (503, {SERVICE: False})


class CountingHealth(health.aio.HealthServicer):
    """Counts how often somebody asks, and fails the first few times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.checks = 0
        self._failures = failures

    async def Check(  # noqa: N802 - gRPC's name.
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> health_pb2.HealthCheckResponse:
        """Count, and respond."""
        self.checks += 1
        if self.checks <= self._failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        return await super().Check(request, context)


async def test_flood_of_readiness_checks_is_few_probes_and_no_outage(
    clean_database_url: str,
) -> None:
    server, checks = grpc.aio.server(), CountingHealth()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    async with listening(server) as port:
        files = descriptor_set(probe_pb2.DESCRIPTOR)
        app = make_app(files, port, database_url=clean_database_url)
        limits = httpx.Limits(max_connections=FLOOD)
        async with (
            serve_app(app) as url,
            httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client,
        ):
            responses = await asyncio.gather(*(client.get("/readyz") for _ in range(FLOOD)))
    assert {response.json()["database"] for response in responses} == {True}
    assert checks.checks < FLOOD / 10


async def test_a_check_that_is_lost_makes_no_gateway_unready(clean_database_url: str) -> None:
    server, checks = grpc.aio.server(), CountingHealth(failures=1)
    await checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    async with listening(server) as port:
        response = await read_readiness(port, clean_database_url, {"*"})
    assert (response.status_code, checks.checks) == (200, 2)
