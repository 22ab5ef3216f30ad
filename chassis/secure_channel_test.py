"""Servers and channels with mutual TLS: who is let in, and new certificates while calls go on."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from chassis.secure_channel import Addresses, ReplaceableChannel, ServiceConfig, open_channel
from chassis.tls import Certificates, server_credentials
from tools.certs.authority import Authority, KeyPair, spiffe_id
from tools.certs.directories import write_directory
from tools.testing.connection_attempts import counting_attempts

NAMES = ("user", "order")
AUTHORITY = Authority.create(NAMES)
OTHER = Authority.create(NAMES)
METHOD = "/test.Service/describe"
STREAM = "/test.Service/repeat"
SECONDS = 20.0

Peer = Mapping[str, Sequence[bytes]]


class Handler(grpc.GenericRpcHandler):
    """Two methods, of which one notes the peers of its calls, and one streams until it may end."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.streams = 0
        self.is_sick = False
        self.may_end = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == METHOD:
            return grpc.unary_unary_rpc_method_handler(self.describe)
        return grpc.unary_stream_rpc_method_handler(self.repeat)

    async def describe(self, request: bytes, context: Any) -> bytes:
        self.peers.append(context.auth_context())
        return request

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.streams += 1
        if self.is_sick:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "sick")
        yield request
        await self.may_end.wait()
        yield request


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture(autouse=True)
def _reloading_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.tls.RELOAD_SECONDS", 0.0)


@pytest.fixture
def server_directory(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "user", AUTHORITY, AUTHORITY.issue("user"))


@pytest.fixture
def client_directory(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "order", AUTHORITY, AUTHORITY.issue("order"))


@asynccontextmanager
async def serving(handler: Handler, directory: Path) -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    credentials = server_credentials(Certificates(directory, "user"))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield port
    await server.stop(grace=0)


@pytest.fixture
async def port(handler: Handler, server_directory: Path) -> AsyncIterator[int]:
    async with serving(handler, server_directory) as opened:
        yield opened


@pytest.fixture
async def channel(port: int, client_directory: Path) -> AsyncIterator[ReplaceableChannel]:
    certificates = Certificates(client_directory)
    async with ReplaceableChannel(f"127.0.0.1:{port}", (), certificates, "user") as opened:
        yield opened


def connect(port: int, pair: KeyPair | None, *, authority: Authority = AUTHORITY) -> Any:
    """Open a channel with a certificate that no program would start with."""
    own = (pair.key, pair.certificate) if pair else ()
    credentials = grpc.ssl_channel_credentials(authority.pair.certificate, *own)
    options = (("grpc.ssl_target_name_override", "user"), ("grpc.enable_retries", 0))
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


async def test_the_server_knows_the_spiffe_id_of_its_client(
    channel: ReplaceableChannel, handler: Handler
) -> None:
    assert await channel.unary_unary(METHOD)(b"hello", timeout=SECONDS) == b"hello"
    assert handler.peers[0]["peer_spiffe_id"] == [b"spiffe://bazaar/order"]


@pytest.mark.parametrize(
    ("pair", "authority"),
    [
        (None, AUTHORITY),
        (OTHER.issue("order"), AUTHORITY),
        (AUTHORITY.issue("order", lifetime=timedelta(minutes=-1)), AUTHORITY),
        # The client does not accept the server.
        (AUTHORITY.issue("order"), OTHER),
    ],
    ids=["no certificate", "other authority", "expired", "other authority of the server"],
)
async def test_a_client_without_a_valid_certificate_is_rejected(
    port: int, handler: Handler, pair: KeyPair | None, authority: Authority
) -> None:
    async with connect(port, pair, authority=authority) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert handler.peers == []


async def test_a_client_in_plain_text_is_rejected(port: int, handler: Handler) -> None:
    channel: Any
    async with open_channel(f"127.0.0.1:{port}", (), None, "user") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert handler.peers == []


async def test_a_client_with_two_spiffe_ids_has_none(port: int, handler: Handler) -> None:
    pair = AUTHORITY.issue("order", uris=[spiffe_id("order"), spiffe_id("gateway")])
    async with connect(port, pair) as channel:
        await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    assert "peer_spiffe_id" not in handler.peers[0]


async def test_a_server_of_another_name_is_rejected(
    port: int, handler: Handler, client_directory: Path
) -> None:
    target, certificates = f"127.0.0.1:{port}", Certificates(client_directory)
    channel: Any
    async with open_channel(target, (), certificates, "order") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert handler.peers == []


@asynccontextmanager
async def load(channel: ReplaceableChannel) -> AsyncIterator[Callable[[], int]]:
    """Make calls one after another, ten at a time; a call that fails fails the test.

    Yield what returns how many calls have succeeded.
    """
    call = channel.unary_unary(METHOD)
    succeeded = 0
    is_over = False

    async def make_calls() -> None:
        nonlocal succeeded
        while not is_over:
            await call(b"", timeout=SECONDS)
            succeeded += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(make_calls())
        yield lambda: succeeded
        is_over = True


async def more(count: Callable[[], int]) -> None:
    """Wait until more calls have succeeded than can have been in flight."""
    wanted = count() + 50
    async with asyncio.timeout(SECONDS):
        while count() < wanted:  # noqa: ASYNC110 - every call is a chance.
            await asyncio.sleep(0.001)


def read_server_certificate(port: int, directory: Path) -> str:
    """Return the certificate that the server has for a new connection, as PEM."""
    context = ssl.create_default_context(cafile=directory / "ca.crt")
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")


async def test_certificates_are_renewed_under_load_without_a_failed_call(
    channel: ReplaceableChannel,
    handler: Handler,
    port: int,
    server_directory: Path,
    client_directory: Path,
) -> None:
    async with load(channel) as count:
        for _ in range(20):
            await more(count)
            handler.peers.clear()
            server_pair, client_pair = AUTHORITY.issue("user"), AUTHORITY.issue("order")
            write_directory(server_directory, AUTHORITY, server_pair)
            write_directory(client_directory, AUTHORITY, client_pair)
            await more(count)
            assert handler.peers[-1]["x509_pem_cert"] == [client_pair.certificate]
            shown = await asyncio.to_thread(read_server_certificate, port, client_directory)
            assert shown.split() == server_pair.certificate.decode().split()


async def test_the_authority_is_replaced_under_load_without_a_failed_call(
    channel: ReplaceableChannel, handler: Handler, server_directory: Path, client_directory: Path
) -> None:
    directories = {"user": server_directory, "order": client_directory}
    both = AUTHORITY.pair.certificate + OTHER.pair.certificate
    async with load(channel) as count:
        for directory in directories.values():
            (directory / "ca.crt").write_bytes(both)
            await more(count)
        for name, directory in directories.items():
            pair = OTHER.issue(name)
            (directory / "tls.key").write_bytes(pair.key)
            (directory / "tls.crt").write_bytes(pair.certificate)
            await more(count)
        for directory in directories.values():
            (directory / "ca.crt").write_bytes(OTHER.pair.certificate)
            await more(count)
    assert handler.peers[-1]["x509_pem_cert"] == [(client_directory / "tls.crt").read_bytes()]


async def test_a_call_goes_on_while_the_certificate_is_replaced(
    channel: ReplaceableChannel, handler: Handler, client_directory: Path
) -> None:
    stream = channel.unary_stream(STREAM)(b"still there", timeout=SECONDS)
    assert await stream.read() == b"still there"
    before = channel.current()
    write_directory(client_directory, AUTHORITY, AUTHORITY.issue("order"))
    assert channel.current() is not before
    await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    handler.may_end.set()
    assert await stream.read() == b"still there"
    assert await stream.read() is grpc.aio.EOF


async def test_calls_go_to_the_current_target_and_earlier_ones_go_on(
    port: int, handler: Handler, server_directory: Path, client_directory: Path
) -> None:
    other, certificates = Handler(), Certificates(client_directory)
    addresses = Addresses(f"ipv4:127.0.0.1:{port}")
    async with (
        serving(other, server_directory) as other_port,
        ReplaceableChannel(addresses, (), certificates, "user") as channel,
    ):
        stream = channel.unary_stream(STREAM)(b"still there", timeout=SECONDS)
        assert await stream.read() == b"still there"
        addresses.change(f"ipv4:127.0.0.1:{other_port}")
        await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
        assert (len(handler.peers), len(other.peers)) == (0, 1)
        handler.may_end.set()
        assert await stream.read() == b"still there"
        assert await stream.read() is grpc.aio.EOF


@asynccontextmanager
async def connect_to_replicas(
    directory: Path, *ports: int
) -> AsyncIterator[tuple[Addresses, ReplaceableChannel]]:
    """Open a channel to addresses that may change, which soon tries those again that refuse."""
    addresses = Addresses(list_ports(*ports))
    options = (("grpc.initial_reconnect_backoff_ms", 10), ("grpc.max_reconnect_backoff_ms", 20))
    certificates = Certificates(directory)
    config: ServiceConfig = {"loadBalancingConfig": [{"round_robin": {}}]}
    async with ReplaceableChannel(addresses, options, certificates, "user", config) as channel:
        yield addresses, channel


def list_ports(*ports: int) -> str:
    return f"ipv4:{','.join(f'127.0.0.1:{port}' for port in ports)}"


async def begin_streams(channel: ReplaceableChannel) -> list[Any]:
    """Begin two streams, and return them."""
    streams = [channel.unary_stream(STREAM)(b"begun", timeout=SECONDS) for _ in range(2)]
    for stream in streams:
        assert await stream.read() == b"begun"
    return streams


async def test_streams_are_spread_over_the_replicas(
    port: int, handler: Handler, server_directory: Path, client_directory: Path
) -> None:
    other = Handler()
    async with (
        serving(other, server_directory) as other_port,
        connect_to_replicas(client_directory, port, other_port) as (_, channel),
    ):
        for count in (1, 2):
            await begin_streams(channel)
            assert (handler.streams, other.streams) == (count, count)


async def fail_streams(channel: ReplaceableChannel, count: int) -> None:
    """Begin streams one after another until as many have failed."""
    while count:
        stream = channel.unary_stream(STREAM)(b"begun", timeout=SECONDS)
        try:
            assert await stream.read() == b"begun"
        except grpc.aio.AioRpcError:
            count -= 1
        stream.cancel()
        await wait_for_tasks(channel)


async def wait_for_tasks(channel: ReplaceableChannel) -> None:
    """Wait until the channel has closed what it drains, and noted how its streams have ended."""
    await asyncio.wait_for(asyncio.gather(*channel._tasks), SECONDS)


@pytest.fixture
def sick() -> Handler:
    handler = Handler()
    handler.is_sick = True
    return handler


async def test_a_replica_that_fails_a_stream_is_left_out(
    port: int, handler: Handler, sick: Handler, server_directory: Path, client_directory: Path
) -> None:
    async with (
        serving(sick, server_directory) as sick_port,
        connect_to_replicas(client_directory, port, sick_port) as (_, channel),
    ):
        await fail_streams(channel, 1)
        await begin_streams(channel)
        assert (handler.streams > 1, sick.streams) == (True, 1)
        handler.is_sick = True
        await fail_streams(channel, 2)
        assert sick.streams == 1
        assert channel.current_for_stream() is not channel.current()


async def test_a_replica_that_was_left_out_has_streams_again(
    port: int,
    sick: Handler,
    server_directory: Path,
    client_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chassis.secure_channel.LEFT_OUT_SECONDS", 0.01)
    async with (
        asyncio.timeout(SECONDS),
        serving(sick, server_directory) as sick_port,
        connect_to_replicas(client_directory, port, sick_port) as (_, channel),
    ):
        await fail_streams(channel, 2)
    assert sick.streams == 2


async def test_a_stream_begins_at_a_replica_that_can_be_reached(
    port: int, handler: Handler, client_directory: Path
) -> None:
    async with (
        counting_attempts("127.0.0.1") as attempts,
        connect_to_replicas(client_directory, port, attempts.port) as (_, channel),
    ):
        await begin_streams(channel)
    assert attempts.times
    assert handler.streams == 2


async def test_a_stream_that_lasts_connects_to_no_replica_that_is_gone(
    port: int, handler: Handler, server_directory: Path, client_directory: Path
) -> None:
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        leaving = await stack.enter_async_context(AsyncExitStack())
        other_port = await leaving.enter_async_context(serving(Handler(), server_directory))
        addresses, channel = await stack.enter_async_context(
            connect_to_replicas(client_directory, port, other_port)
        )
        streams = await begin_streams(channel)
        await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
        await leaving.aclose()
        attempts = await stack.enter_async_context(counting_attempts("127.0.0.1", other_port))
        await attempts.wait_for_more()
        addresses.change(list_ports(port))
        await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
        # A channel that keeps such an address shows how long to wait.
        control = await stack.enter_async_context(counting_attempts("127.0.0.1"))
        _, untold = await stack.enter_async_context(
            connect_to_replicas(client_directory, control.port)
        )
        untold.get_state(try_to_connect=True)
        await control.wait_for_more()
        before = len(attempts.times)
        await control.wait_for_more()
        assert len(attempts.times) == before
        handler.may_end.set()
        ends = await asyncio.gather(*(each.read() for each in streams), return_exceptions=True)
        assert b"begun" in ends


async def test_a_channel_that_makes_no_more_calls_leaves_its_previous_target(
    port: int, client_directory: Path
) -> None:
    addresses = Addresses(f"ipv4:127.0.0.1:{port}")
    certificates = Certificates(client_directory)
    async with ReplaceableChannel(addresses, (), certificates, "user") as channel:
        await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
        assert count_connections(port) == 1
        addresses.change("ipv4:127.0.0.1:0")
        await wait_until_closed(port)


async def test_a_channel_that_was_closed_follows_no_target(client_directory: Path) -> None:
    async with connect_to_replicas(client_directory, 1) as (addresses, channel):
        followed = weakref.ref(channel)
    del channel
    gc.collect()
    assert addresses.target
    assert followed() is None


async def test_a_channel_that_was_closed_makes_no_call(client_directory: Path) -> None:
    async with connect_to_replicas(client_directory, 1, 2) as (addresses, channel):
        pass
    for method in (channel.unary_unary(METHOD), channel.unary_stream(STREAM)):
        with pytest.raises(grpc.aio.UsageError):
            method(b"", timeout=SECONDS)
    addresses.change(list_ports(2))
    with pytest.raises(grpc.aio.UsageError):
        channel.unary_unary(METHOD)(b"", timeout=SECONDS)


async def test_a_channel_may_be_closed_again(client_directory: Path) -> None:
    async with connect_to_replicas(client_directory, 1) as (_, channel):
        await channel.close()


async def test_a_target_that_stays_the_same_leaves_the_connection(
    port: int, client_directory: Path
) -> None:
    addresses = Addresses(f"ipv4:127.0.0.1:{port}")
    certificates = Certificates(client_directory)
    async with ReplaceableChannel(addresses, (), certificates, "user") as channel:
        before = channel.current()
        addresses.change(f"ipv4:127.0.0.1:{port}")
        assert channel.current() is before


async def test_the_previous_connection_is_closed_when_its_calls_have_ended(
    channel: ReplaceableChannel, handler: Handler, client_directory: Path
) -> None:
    stream = channel.unary_stream(STREAM)(b"", timeout=SECONDS)
    await stream.read()
    before = channel.current()
    write_directory(client_directory, AUTHORITY, AUTHORITY.issue("order"))
    channel.current()
    assert before.get_state() is grpc.ChannelConnectivity.READY
    handler.may_end.set()
    assert [await stream.read(), await stream.read()] == [b"", grpc.aio.EOF]
    await wait_for_tasks(channel)
    assert before.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.fixture
def _no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
async def test_the_previous_connection_is_closed_though_its_calls_are_garbage(
    channel: ReplaceableChannel, port: int, client_directory: Path
) -> None:
    call = channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    await call
    garbage: list[object] = [call]
    garbage.append(garbage)
    del call, garbage
    assert count_connections(port) == 1
    write_directory(client_directory, AUTHORITY, AUTHORITY.issue("order"))
    channel.current()
    await wait_for_tasks(channel)
    await wait_until_closed(port)


@pytest.mark.usefixtures("_no_collections")
async def test_the_previous_connection_is_closed_though_its_last_call_is_garbage_only_later(
    channel: ReplaceableChannel, handler: Handler, port: int, client_directory: Path
) -> None:
    async def forget_later() -> None:
        call = channel.unary_stream(STREAM)(b"", timeout=SECONDS)
        garbage: list[object] = [call]
        garbage.append(garbage)
        while await call.read() is not grpc.aio.EOF:
            has_begun.set()
        # What a caller does with the last response.
        await asyncio.sleep(0.1)

    has_begun = asyncio.Event()
    caller = asyncio.create_task(forget_later())
    await has_begun.wait()
    write_directory(client_directory, AUTHORITY, AUTHORITY.issue("order"))
    channel.current()
    handler.may_end.set()
    await caller
    await wait_until_closed(port)


@pytest.mark.usefixtures("_no_collections")
async def test_garbage_is_collected_once_for_all_replicas(
    port: int, handler: Handler, server_directory: Path, client_directory: Path
) -> None:
    collections = 0

    def count(phase: str, _info: Mapping[str, int]) -> None:
        nonlocal collections
        collections += phase == "start"

    async with (
        serving(handler, server_directory) as other_port,
        connect_to_replicas(client_directory, port, other_port) as (addresses, channel),
    ):
        handler.may_end.set()
        for stream in await begin_streams(channel):
            assert [await stream.read(), await stream.read()] == [b"begun", grpc.aio.EOF]
        gc.callbacks.append(count)
        addresses.change(list_ports(port))
        await wait_for_tasks(channel)
        gc.callbacks.remove(count)
    assert collections == 1


async def wait_until_closed(port: int) -> None:
    async with asyncio.timeout(SECONDS):
        while count_connections(port):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def count_connections(port: int) -> int:
    """Return how many connections of clients to a port are established (proc_pid_net(5))."""
    established = "01"
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    rows = [row.split() for each in tables for row in each.read_text("ascii").splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == established for row in rows)


async def test_calls_of_the_previous_certificate_end_at_last(
    channel: ReplaceableChannel, client_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.secure_channel.DRAIN_SECONDS", 0.1)
    stream = channel.unary_stream(STREAM)(b"", timeout=SECONDS)
    await stream.read()
    write_directory(client_directory, AUTHORITY, AUTHORITY.issue("order"))
    channel.current()
    with pytest.raises(asyncio.CancelledError):
        await stream.read()


async def test_a_mismatching_pair_leaves_the_connection_as_it_is(
    channel: ReplaceableChannel, handler: Handler, client_directory: Path
) -> None:
    before = channel.current()
    (client_directory / "tls.key").write_bytes(AUTHORITY.issue("order").key)
    await channel.unary_unary(METHOD)(b"", timeout=SECONDS)
    assert channel.current() is before
    assert len(handler.peers) == 1
