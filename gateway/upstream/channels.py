"""The gRPC services behind the gateway: a channel for each, and a multicallable for each method.

Channels belong to the event loop of their process: `open` must be called after any fork.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.client import CONNECTION_OPTIONS, LOAD_BALANCING
from chassis.discovery import Directory
from chassis.etcd import Etcd
from chassis.secure_channel import ServiceConfig, open_channel
from chassis.tls import Certificates, server_name
from chassis.transport import STREAM_OPTIONS
from gateway.upstream.descriptors import Method

HEALTH_TIMEOUT_SECONDS = 1.0

KEEPALIVE_MILLISECONDS = 330_000
"""The interval of probes on a silent connection. By default a gRPC server allows one in five
minutes; if it gets more, it closes the connection with every call on it."""

_OPTIONS = list(
    {
        **dict(CONNECTION_OPTIONS),
        **dict(STREAM_OPTIONS),
        "grpc.keepalive_time_ms": KEEPALIVE_MILLISECONDS,
    }.items()
)

_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

_HEALTH_CHECK = {"service": "grpc.health.v1.Health", "method": "Check"}


class Upstream:
    """The methods of a set of services, ready to be called."""

    def __init__(
        self,
        methods: Iterable[Method],
        targets: Mapping[str, str],
        certificates: Certificates | None,
        etcd_target: str,
    ) -> None:
        """Take the methods to call, and the target of each service by its full name.

        Without certificates the services are called in plain text. Those with targets such as
        `etcd:///user` are looked up in etcd.
        """
        self._methods = list(methods)
        self._targets = targets
        self._certificates = certificates
        self._etcd_target = etcd_target
        self._stack = AsyncExitStack()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: dict[str, Any] = {}

    async def open(self) -> None:
        """Make the channels; they connect when they are first used."""
        etcd = Etcd(self._etcd_target, self._certificates)
        self._stack.push_async_callback(etcd.close)
        directory = Directory(etcd)
        for service, target in self._targets.items():
            safe = [rpc for rpc in self._methods if rpc.service == service and _is_safe(rpc)]
            self._channels[service] = open_channel(
                directory.resolve(target),
                _OPTIONS,
                self._certificates,
                server_name(service),
                _make_config(safe),
            )
            self._stack.push_async_callback(self._channels[service].close)
        for rpc in self._methods:
            self._calls[rpc.path] = _multicallable(self._channels[rpc.service], rpc)
        self._stack.push_async_callback(directory.close)
        await directory.open()

    async def close(self) -> None:
        """Close the channels; calls that are still open are cancelled."""
        await self._stack.aclose()

    def call(self, rpc: Method) -> Any:
        """Return the multicallable of a method."""
        return self._calls[rpc.path]

    async def check(self) -> dict[str, bool]:
        """Return whether each service serves, by its full name; it takes a second at most."""
        names = list(self._channels)
        serving = await asyncio.gather(*(_serves(self._channels[name], name) for name in names))
        return dict(zip(names, serving, strict=True))


def _is_safe(rpc: Method) -> bool:
    """Return whether a call may be repeated: one that is bound to GET changes nothing."""
    return rpc.rule.WhichOneof("pattern") == "get" and not rpc.client_streaming


def _make_config(safe: Iterable[Method]) -> ServiceConfig:
    """Return a service config; only safe methods and health checks are retried."""
    names = [{"service": rpc.service, "method": rpc.descriptor.name} for rpc in safe]
    return {
        **LOAD_BALANCING,
        "methodConfig": [{"name": [*names, _HEALTH_CHECK], "retryPolicy": _RETRY_POLICY}],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }


def _multicallable(channel: grpc.aio.Channel, rpc: Method) -> Any:
    requests = "stream" if rpc.client_streaming else "unary"
    responses = "stream" if rpc.server_streaming else "unary"
    make = getattr(channel, f"{requests}_{responses}")
    return make(
        rpc.path,
        request_serializer=rpc.request_class.SerializeToString,
        response_deserializer=rpc.response_class.FromString,
    )


async def _serves(channel: grpc.aio.Channel, service: str) -> bool:
    health: Any = health_pb2_grpc.HealthStub(channel)
    try:
        checked = await health.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=HEALTH_TIMEOUT_SECONDS
        )
    except grpc.aio.AioRpcError as error:
        # A server without health checks, or without one of this service, has responded, at least.
        return error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
    return bool(checked.status == health_pb2.HealthCheckResponse.SERVING)
