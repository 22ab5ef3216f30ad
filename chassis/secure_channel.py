"""Channels with mutual TLS, whose calls always have the current certificate of the program.

gRPC cannot replace the certificate of a channel. So a channel is opened anew when the certificate
has changed, and the previous one is closed once its calls have ended.
"""

import asyncio
from collections.abc import Callable, Sequence
from operator import methodcaller
from types import TracebackType
from typing import Any, Self

import grpc

from chassis.tls import Certificates, KeyMaterial

DRAIN_SECONDS = 30 * 86_400.0
"""How long calls may go on with the previous certificate; those that are left are cancelled.

That is as long as any call may take, because to its caller a call that is cancelled here looks like
a task that is cancelled. Each channel that drains has a call, so there are not many.
"""

Options = Sequence[tuple[str, Any]]


def open_channel(
    target: str, options: Options, certificates: Certificates | None, server_name: str
) -> grpc.aio.Channel:
    """Open a channel, which connects when it is first used, and reconnects by itself.

    The certificate of the server has `server_name`. Without `certificates` there is no TLS.
    """
    if certificates is None:
        return grpc.aio.insecure_channel(target, options=options)
    return SecureChannel(target, options, certificates, server_name)


class SecureChannel(grpc.aio.Channel):
    """A channel that is replaced behind the scenes when the certificates change.

    What was made of it, such as the stub of a service, stays usable.
    """

    def __init__(
        self, target: str, options: Options, certificates: Certificates, server_name: str
    ) -> None:
        self._target = target
        # A server is found by its address, and identified by a name that is the same everywhere.
        self._options = [*options, ("grpc.ssl_target_name_override", server_name)]
        self._certificates = certificates
        self._material = certificates.current()
        self._channel = self._open(self._material)
        self._draining: set[asyncio.Task[None]] = set()

    def current(self) -> grpc.aio.Channel:
        """Return the channel for new calls."""
        material = self._certificates.current()
        if material is not self._material:
            self._drain(self._channel)
            self._material = material
            self._channel = self._open(material)
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls with earlier certificates are no longer waited for."""
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

    def _open(self, material: KeyMaterial) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            material.authorities, material.key, material.certificate
        )
        return grpc.aio.secure_channel(self._target, credentials, options=self._options)

    def _drain(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.create_task(channel.close(DRAIN_SECONDS), name="drain_channel")
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


class _MultiCallable:
    """A method of the channel that is current when it is called."""

    def __init__(
        self, channel: SecureChannel, make: Callable[[grpc.aio.Channel], Callable[..., Any]]
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
