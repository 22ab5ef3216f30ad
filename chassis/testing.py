"""What tests of servers need: servers on a free port, parsed errors, schedules, log events.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
import gc
import inspect
import sys
import tracemalloc
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, LiteralString

import grpc
import psycopg
import pytest
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from chassis import access, client, status
from chassis.access import AccessControl, Rule
from chassis.codec import Behaviour
from chassis.database import VOLATILE_SETTINGS, Connection, Database
from chassis.server import DEFAULT_LIMITS, Limits, Server
from chassis.service import Resources, Service
from chassis.token_testing import Issuer
from tools.postgres.testing import app_url

SERVICE = "test.Service"
"""The full name of the service of `make_server`."""

Events = list[MutableMapping[str, Any]]


@dataclass(frozen=True)
class Refusal:
    """How a call was refused; `fields` are those of its BadRequest."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]


@pytest.fixture
def events() -> Events:
    """Return the list to which all log events of the test are added."""
    structlog.reset_defaults()
    captured = structlog.testing.LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, captured])
    return captured.entries


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the list to which all statements of the test are added."""
    found: list[object] = []
    execute = psycopg.AsyncCursor.execute

    async def record_and_execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # A pool opens connections when it likes, and checks each.
        if query != VOLATILE_SETTINGS:
            found.append(query)
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", record_and_execute)
    return found


@pytest.fixture
async def database(clean_database_url: str) -> AsyncIterator[Database]:
    """Yield the database of `tools.postgres.testing`, open."""
    opened = Database(app_url(clean_database_url))
    await opened.open()
    yield opened
    await opened.close()


def make_server(
    database: Database,
    *methods: Behaviour,
    limits: Limits = DEFAULT_LIMITS,
    rules: Mapping[str, Rule] = MappingProxyType({}),
    issuer: Issuer | None = None,
    credentials: grpc.ServerCredentials | None = None,
    address: str = "127.0.0.1:0",
) -> Server:
    """Make a server of methods over plain bytes, so that no proto is needed.

    An async generator streams its responses. Methods are public that have no rule under their name.
    """
    handlers = {method.__name__: _make_handler(method) for method in methods}
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
    return Server(
        SERVICE,
        lambda server: server.add_generic_rpc_handlers((generic,)),
        access_control(handlers, rules, issuer),
        database,
        address,
        limits,
        credentials,
    )


def access_control(
    methods: Iterable[str],
    rules: Mapping[str, Rule] = MappingProxyType({}),
    issuer: Issuer | None = None,
) -> AccessControl:
    """Return the access to methods of SERVICE; those that have no rule are public."""
    by_path = {f"/{SERVICE}/{name}": rules.get(name, access.PUBLIC) for name in methods}
    return AccessControl(by_path, (issuer or Issuer()).verifier())


def unary(channel: grpc.aio.Channel, method: str) -> Any:
    """Return a method of `make_server`'s service, to be called with bytes."""
    return channel.unary_unary(f"/{SERVICE}/{method}")


def streamed(channel: grpc.aio.Channel, method: str) -> Any:
    """Return a method of `make_server`'s service that streams its responses."""
    return channel.unary_stream(f"/{SERVICE}/{method}")


async def echo(request: bytes, _context: object) -> bytes:
    """Respond with the request: a method."""
    return request


async def is_served(channel: grpc.aio.Channel) -> bool:
    """Return whether a call of `echo` is served within a second."""
    try:
        await unary(channel, "echo")(b"", timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return True


class Waiting:
    """A method that responds with its request once it may."""

    def __init__(self) -> None:
        self._entries = asyncio.Semaphore(0)
        self.proceed = asyncio.Event()

    async def wait(self, request: bytes, _context: object) -> bytes:
        """Wait for `proceed`."""
        self._entries.release()
        await self.proceed.wait()
        return request

    async def entered(self, calls: int = 1) -> None:
        """Return when there have been as many more calls."""
        for _ in range(calls):
            await self._entries.acquire()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """Start a server that was made for port 0, and yield a channel to it."""
    await server.start()
    try:
        async with client.open_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.stop(grace_seconds=0)


@asynccontextmanager
async def serving_service(
    service: Service[Any], resources: Resources, issuer: Issuer | None = None
) -> AsyncIterator[Any]:
    """Start a service that trusts a test issuer, and yield a channel whose calls are an admin's."""
    issuer = issuer or Issuer()
    trusting = replace(service, make_verifier=lambda *_: issuer.verifier())
    async with serving(trusting.make_server(resources, "127.0.0.1:0")) as channel:
        yield authorized(channel, issuer.token())


def authorized(channel: grpc.aio.Channel, token: str) -> Any:
    """Return a channel for stubs that adds an access token to all calls."""

    def wrap(make_call: Callable[..., Any]) -> Callable[..., Any]:
        def make_authorized_call(*args: Any, **options: Any) -> Callable[..., Any]:
            return partial(_call_authorized, make_call(*args, **options), token)

        return make_authorized_call

    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    return SimpleNamespace(**{kind: wrap(getattr(channel, kind)) for kind in kinds})


def _call_authorized(
    call: Callable[..., Any],
    token: str,
    *requests: Any,
    metadata: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> Any:
    return call(*requests, metadata=[*metadata, ("authorization", f"Bearer {token}")], **options)


async def refusal(call: Awaitable[object]) -> Refusal:
    """Return how a call was refused.

    Raises:
        AssertionError: it was not.
    """
    try:
        response = await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError(f"not refused: {response}")


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Parse the error of a refused call, with the details of its google.rpc.Status."""
    found = status.from_rpc_error(error)
    info = status.error_info(found)
    bad_request = error_details_pb2.BadRequest()
    for detail in found.details:
        detail.Unpack(bad_request)
    fields = [violation.field for violation in bad_request.field_violations]
    return Refusal(error.code(), error.details() or "", info.reason, dict(info.metadata), fields)


async def wait_for_blocked(connection: Connection) -> None:
    """Return when another connection to this database waits for a lock.

    Raises:
        TimeoutError: none does within 10 s.
    """
    query = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(10):
        while (await connection.execute(query)).rowcount == 0:
            pass


@asynccontextmanager
async def held_back(url: str, change: LiteralString) -> AsyncIterator[None]:
    """Make a change in a transaction of its own; commit it when another one waits for its locks.

    Code that decides on what it read before the change gives itself away by its result.

    Raises:
        TimeoutError: none waits within 10 s.
    """
    async with (
        await psycopg.AsyncConnection.connect(url) as changing,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as watching,
    ):
        await changing.execute(change)
        yield
        await wait_for_blocked(watching)


async def bytes_kept(method: Callable[[Any, Any], Any], request: Message) -> int:
    """Return how many bytes a method keeps while its client does not read after the first response.

    The method streams responses and needs no context. Counted are the objects of Python, and the
    response itself if the method still refers to it.
    """
    async with aclosing(method(request, None)) as stream:
        await anext(stream)  # What every later call finds in place is not counted.
    tracemalloc.start()
    try:
        async with aclosing(method(request, None)) as stream:
            return await _bytes_kept(stream)
    finally:
        tracemalloc.stop()


async def _bytes_kept(stream: AsyncGenerator[Message, None]) -> int:
    response = await anext(stream)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    is_ours_alone = sys.getrefcount(response) == 2  # The variable and the argument.
    return kept if is_ours_alone else kept + response.ByteSize()


def _make_handler(method: Behaviour) -> Any:
    if inspect.isasyncgenfunction(method):
        return grpc.unary_stream_rpc_method_handler(method)
    return grpc.unary_unary_rpc_method_handler(method)
