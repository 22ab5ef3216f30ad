"""What the commands of a service say of its health while it runs, over mutual TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from chassis import tls
from chassis.health import STARTED, Command, parse_command
from chassis.service import Service
from chassis.token_testing import Issuer
from tools.certs.authority import Authority
from tools.certs.directories import write_directory

DESCRIPTOR: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICE = Service(
    DESCRIPTOR,
    lambda servicer, server: None,
    lambda resources: None,
    lambda resources, servicer: Issuer().verifier(),
    database_name="healthdb",
)
STATE = health_pb2.HealthCheckResponse


class Servicer(health.aio.HealthServicer):
    """Health that may keep its clients waiting."""

    responds = True

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.responds:
            await asyncio.Event().wait()
        return await super().Check(request, context)


@pytest_asyncio.fixture
async def servicer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Servicer]:
    """Serve health on all addresses, with the certificates that the settings name."""
    authority = Authority.create(["health"])
    write_directory(tmp_path, authority, authority.issue("health"))
    servicer = Servicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    credentials = tls.server_credentials(tls.Certificates(tmp_path, "health"))
    port = server.add_secure_port("0.0.0.0:0", credentials)
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("HEALTH_HOST", "0.0.0.0")
    monkeypatch.setenv("HEALTH_PORT", str(port))
    monkeypatch.setenv("HEALTH_DATABASE_URL", "postgresql://elsewhere/health")
    monkeypatch.setenv("HEALTH_TLS_DIRECTORY", str(tmp_path))
    await server.start()
    yield servicer
    await server.stop(None)


async def run(command: Command) -> object:
    """Return the status of the command, or its message if that is 1."""
    try:
        async with asyncio.timeout(10):
            await SERVICE._check(SERVICE.load_settings(), command)
    except SystemExit as stopped:
        return stopped.code
    return 0


async def test_a_server_is_healthy_while_its_database_is_not(
    servicer: Servicer,
) -> None:
    await servicer.set(DESCRIPTOR.full_name, STATE.NOT_SERVING)
    assert await run(Command.HEALTH) == 0
    assert await run(Command.READY) == "NOT_SERVING"


async def test_a_server_has_started_when_it_was_ready_once(servicer: Servicer) -> None:
    await servicer.set(DESCRIPTOR.full_name, STATE.NOT_SERVING)
    await servicer.set(STARTED, STATE.NOT_SERVING)
    assert await run(Command.STARTED) == "NOT_SERVING"
    await servicer.set(STARTED, STATE.SERVING)
    assert await run(Command.STARTED) == 0


async def test_a_server_is_ready_when_its_service_serves(
    servicer: Servicer,
) -> None:
    await servicer.set(DESCRIPTOR.full_name, STATE.SERVING)
    assert await run(Command.READY) == 0


async def test_a_server_that_does_not_listen_is_not_healthy(
    servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTH_PORT", "1")
    assert str(await run(Command.HEALTH)).startswith("UNAVAILABLE: ")


async def test_a_server_that_does_not_respond_is_not_healthy(servicer: Servicer) -> None:
    servicer.responds = False
    assert str(await run(Command.HEALTH)).startswith("DEADLINE_EXCEEDED: ")


def test_a_service_without_a_command_serves() -> None:
    assert parse_command("user", []) is Command.SERVE
    assert parse_command("user", ["ready"]) is Command.READY


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(SystemExit) as raised:
        parse_command("user", ["heath"])
    assert raised.value.code == 2
