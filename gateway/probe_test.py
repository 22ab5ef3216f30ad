"""What the commands `health` and `ready` say of a gateway that runs as another process."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from probe.v1 import probe_pb2

from gateway.testing.harness import descriptor_set, program_environment, run_program
from gateway.testing.servicer import serve_probes
from tools.certs.authority import Authority


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Return the environment of a gateway whose database does not respond."""
    async with serve_probes() as (_, port):
        files = descriptor_set(probe_pb2.DESCRIPTOR)
        yield program_environment(files, tmp_path, {"PROBESERVICE": port})


async def run(command: str, environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Return the exit status of the command and its message."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.main", command),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, message = await asyncio.wait_for(process.communicate(), timeout=20)
    return process.returncode, message.decode()


async def test_a_gateway_without_its_database_is_healthy_and_not_ready(
    environment: dict[str, str],
) -> None:
    environment["APIGATEWAY_HOST"] = "0.0.0.0"
    async with run_program(environment) as program:
        assert await run("health", environment) == (0, "")
        status, message = await run("ready", environment)
        assert status == 1
        assert message.startswith('503: {"status":"not ready"')
        await program.stop()
    status, message = await run("health", environment)
    assert status == 1
    assert message.startswith("ConnectionRefusedError: ")


@pytest.mark.parametrize("by_authority", [False, True])
async def test_a_gateway_is_known_by_its_own_certificate(
    environment: dict[str, str], tmp_path: Path, *, by_authority: bool
) -> None:
    authority = Authority.create(["shop.example"])
    pair = authority.issue("shop.example")
    certificate, key = tmp_path / "edge.crt", tmp_path / "edge.key"
    issuer = authority.pair.certificate if by_authority else b""
    certificate.write_bytes(pair.certificate + issuer)
    key.write_bytes(pair.key)
    environment |= {"APIGATEWAY_CERTIFICATE": str(certificate), "APIGATEWAY_KEY": str(key)}
    async with run_program(environment):
        assert await run("health", environment) == (0, "")
