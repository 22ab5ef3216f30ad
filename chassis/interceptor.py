"""What happens around every admitted call: access, a log event, errors as statuses, a deadline."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import grpc
import structlog

from chassis import call_context, codec, errors, log, status
from chassis.access import AccessControl
from chassis.calls_in_flight import CallsInFlight
from chassis.codec import Context, Handler

DEFAULT_DEADLINE_SECONDS = 30.0
"""The deadline of a unary call whose client set none."""

QUIET_METHODS = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Probes come every second: they are neither logged nor counted."""

MaybeHandler: TypeAlias = "Handler | None"


class _TooManyCalls(errors.Error):
    code = "RESOURCE_EXHAUSTED"
    http_status = 503


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method once and keeps the wrapped one.

    A call that `calls` does not admit is refused before its request is read, and one that `access`
    does not allow before it is parsed. Calls of QUIET_METHODS are neither wrapped nor counted.
    """

    def __init__(self, calls: CallsInFlight, access: AccessControl) -> None:
        self._calls = calls
        self._access = access
        self._handlers: dict[str, Handler] = {}
        self._log = log.logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Return the wrapped handler, or None for an unknown method."""
        wrapped = self._handlers.get(details.method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None or details.method.startswith(QUIET_METHODS):
                return handler
            wrapped = self._handlers[details.method] = self._wrap(details.method, handler)
        return wrapped if self._calls.admit(details.method) else _REFUSAL

    def _wrap(self, method: str, handler: Handler) -> Handler:
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        return codec.make_handler(handler, wrap(method, codec.over_bytes(handler)))

    def _wrap_unary(self, method: str, behaviour: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def call(request: Any, context: Context) -> Any:
            async with self._around(method, context), _time_limit(context):
                response = await behaviour(request, context)
            self._calls.finish()
            return response

        return call

    def _wrap_stream(self, method: str, behaviour: Callable[[Any, Context], Any]) -> Any:
        async def call(request: Any, context: Context) -> None:
            # A stream releases what it holds when it ends, not when it is garbage collected.
            async with (
                self._around(method, context),
                aclosing(behaviour(request, context)) as responses,
            ):
                # Only the wait for a response ends with the access: gRPC ends no call in a write.
                read = partial(anext, responses, None)
                while (response := await self._access.while_allowed(read())) is not None:
                    await self._write(context, response)
            self._calls.finish()

        return call

    async def _write(self, context: Context, response: Any) -> None:
        self._calls.begin_sending()
        try:
            await context.write(response)
        except grpc.aio.InternalError as error:
            # gRPC has ended the call: its client is gone, or the message is too large.
            raise asyncio.CancelledError from error
        self._calls.end_sending()

    @asynccontextmanager
    async def _around(self, method: str, context: Context) -> AsyncIterator[None]:
        start = time.monotonic()
        peer = context.peer()
        _bind(method, peer, context, start)
        code = "OK"
        refusal: errors.Error | None = None
        try:
            await self._access.check(method, context)
            yield
        except errors.Error as error:
            code = error.code
            refusal = error
        except asyncio.CancelledError:
            code = "DEADLINE_EXCEEDED" if self._calls.is_blocked() else "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            refusal = errors.Error("INTERNAL", "Something went wrong.")
            self._log.exception("rpc_failed", method=method)
        finally:
            duration_ms = round((time.monotonic() - start) * 1_000, 3)
            self._log.info("rpc", method=method, code=code, duration_ms=duration_ms, peer=peer)
        if refusal is not None:
            self._calls.finish()
            await status.abort(context, refusal)


async def _refuse(_requests: object, context: Context) -> None:
    message = "The server has reached its limit of calls in flight. Try again."
    await status.abort(context, _TooManyCalls("TOO_MANY_CALLS", message))


# For every kind of method: gRPC does not read the request of a stream first.
_REFUSAL: Handler = grpc.stream_stream_rpc_method_handler(_refuse)


def _bind(method: str, peer: str, context: Context, start: float) -> None:
    metadata = dict(context.invocation_metadata() or ())
    found = metadata.get("x-request-id")
    request_id = found if isinstance(found, str) and found else uuid.uuid4().hex
    call_context.request_id.set(request_id)
    call_context.method.set(method)
    call_context.client.set(str(metadata.get("x-forwarded-for") or peer))
    structlog.contextvars.bind_contextvars(request_id=request_id)
    remaining = context.time_remaining()
    call_context.deadline.set(None if remaining is None else start + remaining)


@asynccontextmanager
async def _time_limit(context: Context) -> AsyncIterator[None]:
    remaining = context.time_remaining()
    limit = asyncio.timeout(DEFAULT_DEADLINE_SECONDS if remaining is None else remaining)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        message = "The call took longer than its deadline."
        raise errors.DeadlineExceeded("DEADLINE_EXCEEDED", message) from error
