"""Two gateways are restarted in turn under load, and no request fails.

Clients know both addresses. They repeat a request whose connection was refused, and a GET whose
connection was closed before any byte of the response (RFC 9110 section 9.2.2).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.server.limits import ConnectionLimits
from gateway.testing.harness import (
    descriptor_set,
    make_app,
    program_environment,
    run_program,
    serve_app,
)
from gateway.testing.servicer import serve_probes
from gateway.testing.wire import connect

RESTARTS = 6
CLIENTS = 16
PAUSE_SECONDS = 0.01
"""So that a connection is idle at times."""
GET = b"GET /v1/probes/7 HTTP/1.1\r\nHost: gateway\r\n\r\n"


@dataclass
class Clients:
    """Clients that send a GET and a POST in turn, each to the gateway that it reached last."""

    urls: list[str]
    responses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    closed: int = 0
    """How many responses were the last ones of their connections."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send requests within the block."""
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
                for _ in range(CLIENTS)
            ]
            tasks = [asyncio.create_task(self._repeat(client)) for client in clients]
            try:
                yield
            finally:
                self.urls.clear()
                await asyncio.gather(*tasks)

    async def _repeat(self, client: httpx.AsyncClient) -> None:
        url = self.urls[0]
        while self.urls:
            for method in ("GET", "POST"):
                url = await self._send(client, url, method)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, client: httpx.AsyncClient, url: str, method: str) -> str:
        """Send a request until it has a response or has failed, and return where it was sent."""
        path = "/v1/probes/7" if method == "GET" else "/v1/probes"
        body = None if method == "GET" else {"id": "7"}
        while True:
            try:
                response = await client.request(method, f"{url}{path}", json=body)
            except httpx.ConnectError:
                url = self._other(url)
            except httpx.TransportError as error:
                if method == "POST":
                    self.failures.append(f"{method} {error!r}")
                    return url
            else:
                self.responses[response.status_code] += 1
                self.closed += response.headers.get("connection") == "close"
                return url

    def _other(self, url: str) -> str:
        return next((each for each in self.urls if each != url), url)


async def test_no_request_fails_while_gateways_are_restarted(tmp_path: Path) -> None:
    files = descriptor_set(probe_pb2.DESCRIPTOR)
    async with serve_probes() as (_, port), AsyncExitStack() as stack:
        gateways = []
        for number in range(2):
            directory = tmp_path / str(number)
            directory.mkdir()
            environment = program_environment(files, directory, {"PROBESERVICE": port})
            environment |= {"APIGATEWAY_RATE_LIMIT": "", "APIGATEWAY_ACCOUNT_RATE_LIMIT": ""}
            running = await stack.enter_async_context(AsyncExitStack())
            program = await running.enter_async_context(run_program(environment))
            gateways.append((environment, running, program))
        clients = Clients([program.url for _, _, program in gateways])
        async with clients.running():
            for restart in range(RESTARTS):
                environment, running, program = gateways[restart % 2]
                assert await program.stop() == 0, program.log.read_text()
                await running.aclose()
                program = await running.enter_async_context(run_program(environment))
                gateways[restart % 2] = (environment, running, program)
    assert not clients.failures
    assert set(clients.responses) == {200}
    assert clients.closed > 0


async def test_server_that_stops_takes_a_last_request_of_each_connection() -> None:
    async with serve_probes() as (_, port), AsyncExitStack() as serving, AsyncExitStack() as stack:
        url = await serving.enter_async_context(serve(port, ConnectionLimits()))
        new, begun, used = [await stack.enter_async_context(connect(url)) for _ in range(3)]
        await begun.send_raw(GET[:20])
        await used.send_raw(GET)
        assert "connection" not in (await used.read_response())[1]
        stopping = asyncio.create_task(serving.aclose())
        await wait_until_refused(url)
        for wire, request in ((new, GET), (begun, GET[20:]), (used, GET)):
            await wire.send_raw(request)
            status, headers, _ = await wire.read_response()
            assert (status, headers["connection"]) == (200, "close")
            assert await wire.read_end() == b""
        await stopping


@pytest.mark.parametrize("sent", [b"", GET[:20]])
async def test_connection_without_a_last_request_is_closed(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_probes() as (_, port), AsyncExitStack() as stack:
        async with serve(port, ConnectionLimits(last_request_seconds=0.1)) as url:
            wire = await stack.enter_async_context(connect(url))
            await wire.send_raw(GET)
            assert (await wire.read_response())[0] == 200
            await wire.send_raw(sent)
        assert (b" 408 " in await wire.read_end()) is bool(sent)
    assert "graceful shutdown exceeded" not in caplog.text


@asynccontextmanager
async def serve(port: int, limits: ConnectionLimits) -> AsyncIterator[str]:
    async with serve_app(make_app(descriptor_set(probe_pb2.DESCRIPTOR), port), limits) as url:
        yield url


async def wait_until_refused(url: str) -> None:
    """Return when a server takes no new connections."""
    while True:
        try:
            async with connect(url):
                await asyncio.sleep(0.01)
        except ConnectionError:  # Reset, if it had not been accepted yet.
            return
