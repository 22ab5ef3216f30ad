"""The shop with the issuer of the tests: services with mutual TLS, and the gateway before them.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio

from chassis.tls import Certificates
from services.order.testing import Shop, Urls
from tools.certs.authority import Authority, KeyPair
from tools.certs.directories import PROGRAMS, renew
from tools.dev.testing import find_ports

SERVICES = tuple(name for name in PROGRAMS if name != "gateway")

_GATEWAY = Path("gateway/gateway").absolute()
_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Setup:
    """The running shop, and ways to call it as anybody."""

    shop: Shop
    http: httpx.AsyncClient
    """A client of the gateway."""
    directory: Path
    """The TLS directories of all programs."""
    stack: AsyncExitStack

    def read_pair(self, program: str) -> KeyPair:
        """Return the certificate of a program, with its key."""
        current = Certificates(self.directory / program).current()
        return KeyPair(current.certificate, current.key)

    async def open_channels(self, pair: KeyPair | None) -> Mapping[str, grpc.aio.Channel]:
        """Open a channel to each service by name, with a certificate of one's own or without."""
        return {name: await self._open(name, pair) for name in SERVICES}

    async def _open(self, service: str, pair: KeyPair | None) -> grpc.aio.Channel:
        authorities = Certificates(self.directory / service).current().authorities
        key, certificate = (pair.key, pair.certificate) if pair else (None, None)
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{self.shop.port(service)}",
            grpc.ssl_channel_credentials(authorities, key, certificate),
            [("grpc.ssl_target_name_override", service), ("grpc.use_local_subchannel_pool", 1)],
        )
        return await self.stack.enter_async_context(channel)


def forge_pair(service: str) -> KeyPair:
    """Issue a certificate as if it were a service's, by an authority that nobody trusts."""
    return Authority.create(PROGRAMS).issue(service)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setup(urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setup]:
    """Yield the shop, which runs for all tests of a module."""
    directory = tmp_path_factory.mktemp("shop")
    renew(directory / "tls")
    certificates = {name: Certificates(directory / "tls" / name, name) for name in PROGRAMS}
    async with AsyncExitStack() as stack:
        shop = Shop(urls, stack, certificates)
        await shop.open()
        http = await _start_gateway(shop, directory, stack)
        yield Setup(shop, http, directory / "tls", stack)


async def _start_gateway(shop: Shop, directory: Path, stack: AsyncExitStack) -> httpx.AsyncClient:
    """Start the program, and return a client of it."""
    environment = _make_environment(shop, directory)
    log = stack.enter_context((directory / "gateway.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        _GATEWAY, env=environment, stdout=log, stderr=log
    )
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)
    url = f"http://127.0.0.1:{environment['APIGATEWAY_PORT']}"
    limits = httpx.Limits(max_connections=16)
    client = httpx.AsyncClient(base_url=url, limits=limits, timeout=30, trust_env=False)
    await stack.enter_async_context(client)
    async with asyncio.timeout(_START_SECONDS):
        while not await _is_alive(client):  # noqa: ASYNC110 - it is another process.
            await asyncio.sleep(_POLL_SECONDS)
    return client


async def _is_alive(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).is_success
    except httpx.TransportError:
        return False


def _make_environment(shop: Shop, directory: Path) -> dict[str, str]:
    environment = {
        "PATH": os.environ["PATH"],
        "BUILD_WORKSPACE_DIRECTORY": str(directory),
        "APIGATEWAY_HOST": "127.0.0.1",
        "APIGATEWAY_PORT": str(find_ports(1)[0]),
        "APIGATEWAY_TLS_DIRECTORY": "tls/gateway",
        # Requests may name in X-Forwarded-For for whom they are counted.
        "APIGATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
        # Only the records of idempotency keys are there.
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    for name in SERVICES:
        environment[f"{name.upper()}SERVICE_HOST"] = "127.0.0.1"
        environment[f"{name.upper()}SERVICE_PORT"] = str(shop.port(name))
    return environment
