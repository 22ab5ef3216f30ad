"""Channels with mutual TLS, whose calls always have the current certificate of the program.

gRPC can replace neither the certificate of a channel nor its target. So a channel is opened anew
when one of them has changed, or when it fails, and the previous one is closed once its calls have
ended.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from operator import methodcaller
from types import TracebackType
from typing import Any, Self

import grpc

from chassis.tls import Certificates, KeyMaterial

DRAIN_SECONDS = 30 * 86_400.0
"""How long calls may go on over the previous channel; those that are left are cancelled.

That is as long as any call may take, because to its caller a call that is cancelled here looks like
a task that is cancelled. Each channel that drains has a call, so there are not many.

Until its last call ends, the previous channel goes on connecting to all servers of its target, also
to those that are gone: to each once in 2 s at most. gRPC has no way to keep it from that.
"""

COLLECT_SECONDS = 1.0
"""How long the callers of its last calls may take to forget them."""

REOPEN_SECONDS = 5.0
"""How old a channel that fails has to be before it is opened anew.

gRPC looks a name up at once then. It would do so after pauses that grow to two minutes, while the
name has no address.
"""

Options = Sequence[tuple[str, Any]]


class Addresses:
    """A target of gRPC that changes while there are channels to it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._followers: list[Callable[[], object]] = []

    def follow(self, follower: Callable[[], object]) -> None:
        """Have a function called after each change."""
        self._followers.append(follower)

    def change(self, target: str) -> None:
        """Replace the target; it may be the same."""
        if target == self.target:
            return
        self.target = target
        for follower in self._followers:
            follower()


Target = str | Addresses
"""A target of gRPC, which may be one that changes."""


def open_channel(
    target: Target, options: Options, certificates: Certificates | None, server_name: str
) -> grpc.aio.Channel:
    """Open a channel, which connects when it is first used, and reconnects by itself.

    The certificate of the server has `server_name`. Without `certificates` there is no TLS.
    """
    if certificates is None and isinstance(target, str):
        return grpc.aio.insecure_channel(target, options=options)
    return ReplaceableChannel(target, options, certificates, server_name)


def current_channel(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Return the channel for new calls, which is another one after a replacement."""
    return channel.current() if isinstance(channel, ReplaceableChannel) else channel


class ReplaceableChannel(grpc.aio.Channel):
    """A channel that is replaced behind the scenes when the certificates or the target change.

    What was made of it, such as the stub of a service, stays usable.
    """

    def __init__(
        self, target: Target, options: Options, certificates: Certificates | None, server_name: str
    ) -> None:
        self._addresses = Addresses(target) if isinstance(target, str) else target
        # A server is found by its address, and identified by a name that is the same everywhere.
        self._options = [*options, ("grpc.ssl_target_name_override", server_name)]
        self._certificates = certificates
        self._material = self._find_material()
        self._credentials = _make_credentials(self._material)
        self._target = self._addresses.target
        self._channel = self._open()
        self._draining: set[asyncio.Task[None]] = set()
        # A channel that makes no calls would go on connecting to servers that are gone.
        self._addresses.follow(self.current)

    def current(self) -> grpc.aio.Channel:
        """Return the channel for new calls."""
        material, target = self._find_material(), self._addresses.target
        if material is not self._material:
            self._material = material
            self._credentials = _make_credentials(material)
        elif target == self._target and not self._is_failing():
            return self._channel
        self._target = target
        self._drain(self._channel)
        self._channel = self._open()
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls over earlier ones are no longer waited for."""
        await self._channel.close(grace)
        for task in list(self._draining):
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)

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
        return _MultiCallable(self, methodcaller("unary_unary", *args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        return _MultiCallable(self, methodcaller("unary_stream", *args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        return _MultiCallable(self, methodcaller("stream_unary", *args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Return a multicallable."""
        return _MultiCallable(self, methodcaller("stream_stream", *args, **kwargs))

    def _find_material(self) -> KeyMaterial | None:
        return self._certificates.current() if self._certificates else None

    def _is_failing(self) -> bool:
        is_old = time.monotonic() > self._open_time + REOPEN_SECONDS
        return is_old and self._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def _open(self) -> grpc.aio.Channel:
        self._open_time = time.monotonic()
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        # Channels with the same credentials share their connections to an address.
        return grpc.aio.secure_channel(self._target, self._credentials, options=self._options)

    def _drain(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.create_task(_close_drained(channel), name="drain_channel")
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


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
        self, channel: ReplaceableChannel, make: Callable[[grpc.aio.Channel], Callable[..., Any]]
    ) -> None:
        self._channel = channel
        self._make = make
        self._made_of = channel.current()
        self._call = make(self._made_of)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        channel = self._channel.current()
        if channel is not self._made_of:
            self._call = self._make(channel)
            self._made_of = channel
        return self._call(*args, **kwargs)
