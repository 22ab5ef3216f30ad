"""Calls to other services: channels, propagated deadlines and one retry policy.

Among the services only this module retries, and only UNAVAILABLE. Methods that other services call
are reads or idempotent per order, so that a retry is safe even if the first attempt succeeded.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

import grpc

from chassis import call_context, errors
from chassis.secure_channel import Target, current_channel
from chassis.secure_channel import open_channel as open_secure_channel
from chassis.tls import Certificates, server_name
from chassis.transport import MESSAGE_OPTIONS

TIMEOUT_SECONDS = 10.0
"""How long a call may take, if the deadline of its caller does not come first."""
HEADROOM_SECONDS = 0.05
"""How much sooner than its caller a call times out, so that the caller can still respond."""

CONNECTION_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    *MESSAGE_OPTIONS,
    # gRPC limits by it how long a connection may take with its handshake.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # By default 30 s, in which all replicas may have been replaced by others.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.keepalive_time_ms", 60_000),
    # Services are called directly, whatever http_proxy says.
    ("grpc.enable_http_proxy", 0),
)
"""Options of every channel: message limits, and fast reconnects to a peer that is back."""

_OUTLIER_DETECTION = {
    "interval": "2s",
    "baseEjectionTime": "1s",
    "maxEjectionTime": "30s",
    "maxEjectionPercent": 50,
    "failurePercentageEjection": {"threshold": 99, "minimumHosts": 2, "requestVolume": 10},
    "childPolicy": [{"round_robin": {}}],
}
"""A replica that fails all of at least 10 calls of an interval is left out, the longer the more
often (gRFC A50); never more than half of them are.

To gRPC every status but OK is a failure, also one that is due to the request, such as NOT_FOUND. So
with a lower threshold clients could turn replicas off by bad requests. The first time is short,
because the streams of a replica that stops may all end in one interval: it is called again before
the next one of a rolling restart stops.
"""

LOAD_BALANCING: Final[Mapping[str, Any]] = {
    "loadBalancingConfig": [{"outlier_detection_experimental": _OUTLIER_DETECTION}],
    "healthCheckConfig": {"serviceName": ""},
}
"""The part of every service config that spreads calls over the addresses of a target, and calls
none that is about to stop: a call that reaches it too late is lost, and not always safe to repeat.

The health of a server as a whole, which has an empty name, is watched, and not that of its service,
which depends on a database that all replicas share. A server without health checks is healthy.
"""

_SERVICE_CONFIG = {
    **LOAD_BALANCING,
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)

Response = TypeVar("Response")


def open_channel(
    target: Target, certificates: Certificates | None = None, service: str = ""
) -> grpc.aio.Channel:
    """Open a channel to a target, which connects when it is first used and reconnects by itself.

    With the program's certificates it is to the server of a proto service, by its simple name, and
    refuses any other; without them it is in plain text.
    """
    name = server_name(service)
    return open_secure_channel(target, CONNECTION_OPTIONS, certificates, name, _SERVICE_CONFIG)


async def call(method: grpc.aio.UnaryUnaryMultiCallable[Any, Response], request: Any) -> Response:
    """Call another service within the deadline of the call that is being served.

    Raises:
        errors.Unavailable: the service cannot be reached, did not respond in time, or lost a race
            against another call. Whether the call had an effect is unknown. The cause is a
            errors.FailedCallError.
        errors.FailedCallError: it refused the call, which is a defect of one of the two.
    """
    remaining = call_context.remaining_seconds(TIMEOUT_SECONDS + HEADROOM_SECONDS)
    try:
        return await method(
            request,
            timeout=max(0.0, remaining - HEADROOM_SECONDS),
            metadata=(("x-request-id", call_context.request_id.get()),),
        )
    except grpc.aio.AioRpcError as error:
        _fail(request, error)


async def watch(
    channel: grpc.aio.Channel,
    method: grpc.aio.UnaryStreamMultiCallable[Any, Response],
    request: Any,
) -> AsyncGenerator[Response, None]:
    """Yield the responses of a stream that the other service ends only when it stops.

    The end means that the channel of the method connects anew, and so should the caller: the stream
    would stay with the previous certificate and the previous replicas.

    Raises:
        errors.Unavailable: the service cannot be reached, or has stopped.
        errors.FailedCallError: it refused the call.
    """
    begun_over = current_channel(channel)
    call = method(request)
    try:
        async for response in call:
            yield response
            if current_channel(channel) is not begun_over:
                return
    except grpc.aio.AioRpcError as error:
        _fail(request, error)
    finally:
        call.cancel()


def _fail(request: Any, error: grpc.aio.AioRpcError) -> NoReturn:
    failure = errors.FailedCallError(
        f"{type(request).__name__}: {error.code().name}", error.details() or ""
    )
    if error.code() not in _TRANSIENT:
        raise failure from error
    message = "Another service did not respond. The same request may succeed later."
    raise errors.Unavailable("PEER_UNAVAILABLE", message) from failure
