"""Channels with mutual TLS, whose calls always have the current certificate of the program.

gRPC can replace neither the certificate of a channel nor its target. So a channel is opened anew
when one of them has changed, or when it fails, and the previous one is closed once its calls have
ended.

A call ends soon, and a stream may last for long. So where the replicas of a service come and go,
streams have channels of their own, which spread nothing: each is connected to one replica, and
connects to no other while that is there. A channel for calls is connected to all replicas, and goes
on connecting to one that is gone.

gRPC leaves out a replica that fails calls (see `chassis.client`). One that fails streams is left
out by this module.
"""

import asyncio
import gc
import json
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from operator import methodcaller
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import grpc

from chassis.tls import Certificates, KeyMaterial

DRAIN_SECONDS = 30 * 86_400.0
"""How long calls may go on over the previous channel; those that are left are cancelled.

That is as long as any call may take, because to its caller a call that is cancelled here looks like
a task that is cancelled. Each channel that drains has a call, so there are not many.
"""

COLLECT_SECONDS = 1.0
"""How long the callers of its last calls may take to forget them."""

REOPEN_SECONDS = 5.0
"""How old a channel that fails has to be before it is opened anew.

gRPC looks a name up at once then. It would do so after pauses that grow to two minutes, while the
name has no address.
"""

LEFT_OUT_SECONDS = 10.0
"""How long no stream begins at a replica after it has failed one with UNAVAILABLE."""

Options = Sequence[tuple[str, Any]]
ServiceConfig = Mapping[str, Any]
"""How a channel spreads and repeats calls (https://github.com/grpc/grpc/blob/master/doc/service_config.md)."""
NO_CONFIG: Final[ServiceConfig] = MappingProxyType({})

_BALANCING = "loadBalancingConfig"


class Addresses:
    """A target that changes while there are channels to it: `ipv4:10.0.0.3:50051,10.0.0.4:50051`.

    The addresses are those of the replicas of one service.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._followers: set[Callable[[], object]] = set()

    def follow(self, follower: Callable[[], object]) -> None:
        """Have a function called after each change."""
        self._followers.add(follower)

    def unfollow(self, follower: Callable[[], object]) -> None:
        """Have a function called no more."""
        self._followers.discard(follower)

    def change(self, target: str) -> None:
        """Replace the target; it may be the same."""
        if target == self.target:
            return
        self.target = target
        for follower in self._followers:
            follower()

    def orders(self) -> list[str]:
        """Return the target once with each of its addresses first, in any order."""
        scheme, _, listed = self.target.partition(":")
        addresses = listed.split(",")
        orders = [
            f"{scheme}:{','.join(addresses[first:] + addresses[:first])}"
            for first in range(len(addresses))
        ]
        # Callers that all begin with the same replica would make it busier than others.
        random.shuffle(orders)
        return orders


Target = str | Addresses
"""A target of gRPC, which may be one that changes."""


def open_channel(
    target: Target,
    options: Options,
    certificates: Certificates | None,
    server_name: str,
    config: ServiceConfig = NO_CONFIG,
) -> grpc.aio.Channel:
    """Open a channel, which connects when it is first used, and reconnects by itself.

    The certificate of the server has `server_name`. Without `certificates` there is no TLS.
    """
    if certificates is None and isinstance(target, str):
        return grpc.aio.insecure_channel(target, options=_add_config(options, config))
    return ReplaceableChannel(target, options, certificates, server_name, config)


def current_channel(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Return the channel for new calls, which is another one after a replacement."""
    return channel.current() if isinstance(channel, ReplaceableChannel) else channel


class ReplaceableChannel(grpc.aio.Channel):
    """A channel that is replaced when its certificate or its target changes, or when it fails.

    What was made of it, such as the stub of a service, stays usable.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        certificates: Certificates | None,
        server_name: str,
        config: ServiceConfig = NO_CONFIG,
    ) -> None:
        self._target = target
        # A server is found by its address, and identified by a name that is the same everywhere.
        self._options = [*options, ("grpc.ssl_target_name_override", server_name)]
        self._config = config
        self._certificates = certificates
        self._material = self._find_material()
        self._credentials = _make_credentials(self._material)
        self._connections = self._connect()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        if isinstance(target, Addresses):
            # A channel that makes no calls would go on connecting to servers that are gone.
            target.follow(self.current)

    def current(self) -> grpc.aio.Channel:
        """Return the channel for new calls."""
        return self._find_connections().for_calls

    def current_for_stream(self) -> grpc.aio.Channel:
        """Return the channel for a new stream."""
        connections = self._find_connections()
        return connections.for_calls if self._is_closed else connections.for_stream()

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls over earlier ones are no longer waited for."""
        self._is_closed = True
        if isinstance(self._target, Addresses):
            self._target.unfollow(self.current)
        connections = self._connections
        opened = (connections.for_calls, *connections.for_streams.values())
        await asyncio.gather(*(channel.close(grace) for channel in opened))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the current connection."""
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the current connection has another state."""
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the current connection is ready."""
        await self.current().channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable, as the other three do."""
        return _MultiCallable(self.current, methodcaller("unary_unary", *args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        make = methodcaller("unary_stream", *args, **kwargs)
        return _MultiCallable(self.current_for_stream, make, self._note_end)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        make = methodcaller("stream_unary", *args, **kwargs)
        return _MultiCallable(self.current_for_stream, make, self._note_end)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        make = methodcaller("stream_stream", *args, **kwargs)
        return _MultiCallable(self.current_for_stream, make, self._note_end)

    def _find_material(self) -> KeyMaterial | None:
        return self._certificates.current() if self._certificates else None

    def _find_connections(self) -> "_Connections":
        """Return the connections for new calls, after those that are out of date were replaced."""
        connections = self._connections
        if self._is_closed:
            return connections
        material = self._find_material()
        if material is not self._material:
            self._material = material
            self._credentials = _make_credentials(material)
        elif connections.target == _find_target(self._target) and not connections.are_failing():
            return connections
        self._run(_close_drained(connections.for_calls), "drain_channel")
        # What is left of a stream that has ended connects to nobody.
        for channel in connections.for_streams.values():
            self._run(channel.close(DRAIN_SECONDS), "drain_channel")
        self._connections = self._connect()
        return self._connections

    def _connect(self) -> "_Connections":
        return _Connections(self._target, self._options, self._config, self._credentials)

    def _note_end(self, channel: grpc.aio.Channel, stream: Any) -> None:
        connections = self._connections
        if channel is not connections.for_calls:
            self._run(connections.leave_out_if_failed(channel, stream), "note_end")

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connections:
    """The channels with one certificate to one target, which are replaced together."""

    def __init__(
        self,
        target: Target,
        options: Options,
        config: ServiceConfig,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        self.target = _find_target(target)
        self._options = options
        self._credentials = credentials
        self._open_time = time.monotonic()
        self.for_calls = self._open(self.target, config)
        # By default, gRPC connects to the first address that it can, and then to no other.
        self._stream_config = {name: config[name] for name in config if name != _BALANCING}
        self._orders = deque(target.orders() if isinstance(target, Addresses) else ())
        self.for_streams: dict[str, grpc.aio.Channel] = {}

    def for_stream(self) -> grpc.aio.Channel:
        """Return the channel for a new stream, which begins at each replica in turn."""
        if not self._orders:
            return self.for_calls
        order = self._orders[0]
        self._orders.rotate(-1)
        if order not in self.for_streams:
            self.for_streams[order] = self._open(order, self._stream_config)
        return self.for_streams[order]

    async def leave_out_if_failed(self, channel: grpc.aio.Channel, stream: Any) -> None:
        """Begin no stream for a time at a replica that has failed one, unless no other is left."""
        if await stream.code() is not grpc.StatusCode.UNAVAILABLE:
            return
        for order in self._orders if len(self._orders) > 1 else ():
            if self.for_streams.get(order) is channel:
                self._orders.remove(order)
                asyncio.get_running_loop().call_later(LEFT_OUT_SECONDS, self._orders.append, order)
                return

    def are_failing(self) -> bool:
        """Return whether no server of the target can be reached, though there was time for it."""
        is_old = time.monotonic() > self._open_time + REOPEN_SECONDS
        return is_old and self.for_calls.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def _open(self, target: str, config: ServiceConfig) -> grpc.aio.Channel:
        options = _add_config(self._options, config)
        # Channels with the same credentials share their connections to an address.
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, self._credentials, options=options)


def _find_target(target: Target) -> str:
    return target.target if isinstance(target, Addresses) else target


def _add_config(options: Options, config: ServiceConfig) -> Options:
    return [*options, ("grpc.service_config", json.dumps(dict(config)))]


async def _close_drained(channel: grpc.aio.Channel) -> None:
    await channel.close(DRAIN_SECONDS)
    # Calls that have ended and are garbage would keep it connecting, also to servers that are gone.
    # Its last calls are not garbage yet: their callers have just been given the responses.
    await asyncio.sleep(COLLECT_SECONDS)
    gc.collect()


def _make_credentials(material: KeyMaterial | None) -> grpc.ChannelCredentials | None:
    if material is None:
        return None
    return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)


class _MultiCallable:
    """A method of the channel that is current when it is called."""

    def __init__(
        self,
        find_channel: Callable[[], grpc.aio.Channel],
        make: Callable[[grpc.aio.Channel], Callable[..., Any]],
        note_end: Callable[[grpc.aio.Channel, Any], None] | None = None,
    ) -> None:
        self._find_channel = find_channel
        self._make = make
        self._note_end = note_end
        self._made_of: grpc.aio.Channel | None = None
        self._call: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        channel = self._find_channel()
        if channel is not self._made_of:
            self._call = self._make(channel)
            self._made_of = channel
        call = self._call(*args, **kwargs)
        if self._note_end:
            call.add_done_callback(partial(self._note_end, channel))
        return call
