"""TLS handshakes in progress are bounded, and those that do not end leave nothing."""

import asyncio
import gc
import resource
import socket
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
import structlog

from gateway.http.client_address import TrustedProxies
from gateway.server.admission import Admission, AdmissionLimits
from gateway.server.limits import ConnectionLimits
from gateway.server.tls import ServerCertificate
from gateway.server.tls_server import RETRY_SECONDS, TlsServer
from gateway.testing.wire import Wire, connect
from tools.certs.authority import Authority

AUTHORITY = Authority.create(["gateway"])
OTHER = "127.0.0.2"
LONG_SECONDS = 60.0
PROXIES = TrustedProxies(frozenset({ip_network("127.0.0.0/8")}))
NOT_TLS = b"GET / HTTP/1.1\r\n\r\n"


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        del self._transport


class Server:
    """A TLS server in this process, and its clients."""

    def __init__(self, directory: Path) -> None:
        pair = AUTHORITY.issue("gateway")
        (directory / "edge.crt").write_bytes(pair.certificate)
        (directory / "edge.key").write_bytes(pair.key)
        self._certificate = ServerCertificate(directory / "edge.crt", directory / "edge.key")
        self._trust = ssl.create_default_context(cadata=AUTHORITY.pair.certificate.decode())
        self.echoes: weakref.WeakSet[Echo] = weakref.WeakSet()
        self.url = ""
        self._port = 0

    def _make_echo(self) -> Echo:
        echo = Echo()
        self.echoes.add(echo)
        return echo

    @asynccontextmanager
    async def serve(
        self, limits: ConnectionLimits, proxies: TrustedProxies | None = None
    ) -> AsyncIterator[None]:
        """Serve as long as the context is open."""
        admission = Admission(AdmissionLimits(), proxies=proxies)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            self._port = listening.getsockname()[1]
            self.url = f"https://127.0.0.1:{self._port}"
            context = self._certificate.context
            server = TlsServer([listening], self._make_echo, context, limits, admission)
            server.start()
            try:
                yield
            finally:
                server.close()
                await server.wait_closed()

    def connect_unaccepted(self) -> socket.socket:
        """Open a connection while the server cannot accept it, as it shares this thread."""
        return socket.create_connection(("127.0.0.1", self._port))

    @asynccontextmanager
    async def greet(self, local_address: str = "127.0.0.1") -> AsyncIterator[Wire]:
        """Open a connection with a handshake.

        Raises:
            OSError: the server has aborted it.
        """
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._trust, local_addr=(local_address, 0)
        )
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def serves(self, local_address: str = "127.0.0.1") -> bool:
        """Return whether a new connection is served."""
        try:
            async with self.greet(local_address) as wire:
                return await echoes(wire)
        except ConnectionError:
            return False

    @asynccontextmanager
    async def silent(self, count: int) -> AsyncIterator[list[Wire]]:
        """Have open connections that do not greet."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(connect(self.url)) for _ in range(count)]


async def echoes(wire: Wire) -> bool:
    await wire.send_raw(b"hello")
    return await wire.read_raw(5) == b"hello"


async def wait_until_served(server: Server) -> None:
    async with asyncio.timeout(10):
        while not await server.serves():
            pass


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def test_handshake_beyond_the_limit_is_aborted_and_connections_go_on(server: Server) -> None:
    limits = ConnectionLimits(max_handshakes=3, handshake_seconds=LONG_SECONDS)
    async with server.serve(limits, PROXIES), server.greet() as open_before:
        async with server.silent(3):
            assert not await server.serves()
            assert not await server.serves(OTHER)
            assert await echoes(open_before)
        await wait_until_served(server)


async def test_client_has_a_share_of_the_handshakes(server: Server) -> None:
    limits = ConnectionLimits(max_client_handshakes=2, handshake_seconds=LONG_SECONDS)
    async with server.serve(limits):
        async with server.silent(2):
            assert not await server.serves()
            assert await server.serves(OTHER)
        await wait_until_served(server)


async def test_refused_handshakes_are_logged_together(server: Server) -> None:
    limits = ConnectionLimits(max_handshakes=1, handshake_seconds=LONG_SECONDS)
    with structlog.testing.capture_logs() as events:
        async with server.serve(limits), server.silent(1):
            for _ in range(20):
                assert not await server.serves()
    logged = [event for event in events if event["event"] == "handshakes_refused"]
    assert 1 <= len(logged) <= 5


async def test_trusted_proxy_has_no_share_of_the_handshakes(server: Server) -> None:
    limits = ConnectionLimits(max_client_handshakes=2, handshake_seconds=LONG_SECONDS)
    async with server.serve(limits, PROXIES), server.silent(2):
        assert await server.serves()


async def test_handshakes_have_less_time_when_many_are_in_progress(server: Server) -> None:
    limits = ConnectionLimits(max_handshakes=2, handshake_seconds=LONG_SECONDS)
    async with server.serve(limits), server.silent(2) as (first, second):
        assert await second.read_end() == b""
        reading = asyncio.create_task(first.read_raw(1))
        assert await server.serves()
        assert not reading.done()
        reading.cancel()


async def test_handshake_that_does_not_end_leaves_nothing(server: Server) -> None:
    async with server.serve(ConnectionLimits(handshake_seconds=0.2)), server.silent(30) as wires:
        for wire in wires[:10]:
            await wire.send_raw(NOT_TLS)
        for wire in wires[:20]:
            with suppress(ConnectionError):
                await wire.read_end()
        for wire in wires[20:]:
            wire.abort()
        async with asyncio.timeout(10):
            while server.echoes:
                await asyncio.sleep(0.01)
                gc.collect()


async def test_connections_wait_while_the_process_has_too_many_files(server: Server) -> None:
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with server.serve(ConnectionLimits()):
        with server.connect_unaccepted(), structlog.testing.capture_logs() as events:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard_limit))
            try:
                async with asyncio.timeout(10):
                    while not events:  # noqa: ASYNC110 - nothing else tells.
                        await asyncio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft_limit, hard_limit))
        assert [event["event"] for event in events] == ["connections_not_accepted"]
        assert await asyncio.wait_for(server.serves(), RETRY_SECONDS + 5)


async def test_server_aborts_handshakes_in_progress_when_it_has_stopped(server: Server) -> None:
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        async with server.serve(ConnectionLimits(handshake_seconds=LONG_SECONDS)):
            (silent,) = await stack.enter_async_context(server.silent(1))
            assert await server.serves()
        assert await silent.read_end() == b""
