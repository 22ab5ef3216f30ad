"""The service that tests call through the gateway; it remembers its calls.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2_grpc
from probe.v1 import probe_pb2, probe_pb2_grpc

from gateway.testing.serving import listening

CANCELLATION_SECONDS = 0.05
"""How long a cancellation may take to arrive after the last request of a stream."""

WAIT_SECONDS = 10.0

Context = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True)
class Call:
    """The request, metadata and deadline of a call; a stream of requests counts as Empty."""

    rpc: str
    request: Message
    metadata: dict[str, str]
    time_remaining_seconds: float | None


@dataclass
class ProbeServicer(probe_pb2_grpc.ProbeServiceServicer):
    """Behaves as the comments in probe.proto say."""

    calls: list[Call] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a call ends because its client has disconnected."""
    sent: int = 0
    """How many responses streams have sent."""
    received: int = 0
    """How many requests streams have received."""
    cancellation_seconds: float = CANCELLATION_SECONDS

    async def wait_for(self, calls: int) -> None:
        """Wait until `calls` calls have begun."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.calls) < calls:  # noqa: ASYNC110 - there is no event to wait for.
                await asyncio.sleep(0.001)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until streams have received `count` requests."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.received < count:  # noqa: ASYNC110 - as above.
                await asyncio.sleep(0.001)

    async def settled(self) -> int:
        """Wait until streams send no more responses; return how many they have sent."""
        before = -1
        async with asyncio.timeout(3 * WAIT_SECONDS):
            while before != self.sent:
                before = self.sent
                await asyncio.sleep(0.5)
        return before

    async def GetProbe(self, request: probe_pb2.Probe, context: Context) -> probe_pb2.Probe:
        """Send the request back."""
        self._note("GetProbe", request, context)
        return request

    async def CreateProbe(self, request: probe_pb2.Probe, context: Context) -> probe_pb2.Probe:
        """Send the request back."""
        self._note("CreateProbe", request, context)
        return request

    async def UpdateProbe(
        self, request: probe_pb2.UpdateProbeRequest, context: Context
    ) -> probe_pb2.Probe:
        """Send the id back, and the paths of the mask as tags."""
        self._note("UpdateProbe", request, context)
        return probe_pb2.Probe(id=request.id, tags=request.update_mask.paths)

    async def DeleteProbe(self, request: probe_pb2.Probe, context: Context) -> empty_pb2.Empty:
        """Return Empty."""
        self._note("DeleteProbe", request, context)
        return empty_pb2.Empty()

    async def PutRaw(
        self, request: probe_pb2.RawRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Send the payload back."""
        self._note("PutRaw", request, context)
        return request.payload

    async def EchoRaw(
        self, request: httpbody_pb2.HttpBody, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Send the request back."""
        self._note("EchoRaw", request, context)
        return request

    async def WrapRaw(
        self, request: probe_pb2.RawRequest, context: Context
    ) -> probe_pb2.RawRequest:
        """Send the request back."""
        self._note("WrapRaw", request, context)
        return request

    async def Fail(self, request: probe_pb2.FailRequest, context: Context) -> empty_pb2.Empty:
        """Fail as the request says."""
        self._note("Fail", request, context)
        await _abort(context, request.code, request.message, _details(request))

    async def Wait(self, request: probe_pb2.WaitRequest, context: Context) -> probe_pb2.Probe:
        """Return the number of calls so far, after a while."""
        self._note("Wait", request, context)
        with self._noting_cancellation():
            await asyncio.sleep(request.seconds)
        return probe_pb2.Probe(number=len(self.calls), id="x" * request.size)

    async def Watch(
        self, request: probe_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[probe_pb2.Probe]:
        """Stream as many probes as asked for."""
        self._note("Watch", request, context)
        async for number in self._count(request, context):
            yield probe_pb2.Probe(int32_value=number, text="x" * request.size)

    async def ListProbes(
        self, request: probe_pb2.ListProbesRequest, context: Context
    ) -> AsyncIterator[probe_pb2.ListProbesResponse]:
        """Stream the pages after the one that the token names."""
        self._note("ListProbes", request, context)
        number = await _position(context, request.page_token)
        while number < request.total:
            last = min(number + request.page_size, request.total)
            numbers = range(number + 1, last + 1)
            number = last
            yield probe_pb2.ListProbesResponse(
                probes=[probe_pb2.Probe(int32_value=each) for each in numbers],
                next_page_token=str(number) if number < request.total else "",
            )
            if request.code and number < request.total:
                detail = error_details_pb2.RetryInfo(retry_delay=request.retry_delay)
                details = [detail] if request.HasField("retry_delay") else []
                await _abort(context, request.code, "asked to fail", details)

    async def Follow(
        self, request: probe_pb2.FollowRequest, context: Context
    ) -> AsyncIterator[probe_pb2.FollowResponse]:
        """Stream the events after the one that the token names."""
        self._note("Follow", request, context)
        position = await _position(context, request.resume_token)
        for number in range(position + 1, request.last + 1):
            token = "" if number % 2 else str(number)
            yield probe_pb2.FollowResponse(number=number, resume_token=token)

    async def Download(
        self, request: probe_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Stream a line of CSV for each count."""
        self._note("Download", request, context)
        async for number in self._count(request, context):
            yield httpbody_pb2.HttpBody(content_type="text/csv", data=b"%d\n" % number)

    async def Collect(
        self, requests: AsyncIterator[probe_pb2.Probe], context: Context
    ) -> probe_pb2.Probe:
        """Join the ids of all probes."""
        self._note("Collect", empty_pb2.Empty(), context)
        ids = []
        with self._noting_cancellation():
            async for probe in requests:
                self.received += 1
                ids.append(probe.id)
            # In grpc.aio's servers a cancelled stream looks like a complete one at first.
            await asyncio.sleep(self.cancellation_seconds)
        return probe_pb2.Probe(tags=ids, int32_value=len(ids))

    async def Upload(
        self, requests: AsyncIterator[httpbody_pb2.HttpBody], context: Context
    ) -> probe_pb2.Probe:
        """Count the bytes."""
        self._note("Upload", empty_pb2.Empty(), context)
        size = 0
        content_type = ""
        async for piece in requests:
            content_type = piece.content_type
            size += len(piece.data)
        return probe_pb2.Probe(int64_value=size, text=content_type)

    async def Chat(
        self, requests: AsyncIterator[probe_pb2.Probe], context: Context
    ) -> AsyncIterator[probe_pb2.Probe]:
        """Send each probe back when it comes."""
        self._note("Chat", empty_pb2.Empty(), context)
        with self._noting_cancellation():
            async for probe in requests:
                self.received += 1
                if probe.id == "fail":
                    await context.abort(grpc.StatusCode.ABORTED, "asked to fail")
                if probe.id == "hang":
                    await asyncio.Event().wait()
                yield probe
            await asyncio.sleep(self.cancellation_seconds)

    async def _count(self, request: probe_pb2.WatchRequest, context: Context) -> AsyncIterator[int]:
        number = 0
        with self._noting_cancellation():
            while number != request.count:
                if number:
                    await asyncio.sleep(request.pause_seconds)
                number += 1
                self.sent += 1
                yield number
        if request.code:
            await context.abort(_code(request.code), "asked to fail")

    def _note(self, rpc: str, request: Message, context: Context) -> None:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        self.calls.append(Call(rpc, request, metadata, context.time_remaining()))

    @contextmanager
    def _noting_cancellation(self) -> Iterator[None]:
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


@asynccontextmanager
async def serve_probes(
    servicer_class: type[ProbeServicer] = ProbeServicer,
) -> AsyncIterator[tuple[ProbeServicer, int]]:
    """Serve on a free port; yield the servicer and the port."""
    servicer = servicer_class()
    server = grpc.aio.server()
    probe_pb2_grpc.add_ProbeServiceServicer_to_server(servicer, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    async with listening(server) as port:
        yield servicer, port


def _code(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


async def _position(context: Context, token: str) -> int:
    if token and not token.isdecimal():
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The token is not a number.")
    return int(token or 0)


async def _abort(context: Context, code: int, message: str, details: Iterable[Message]) -> NoReturn:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    await context.abort(_code(code), message)
    raise AssertionError("abort returned")


def _details(request: probe_pb2.FailRequest) -> list[Message]:
    details: list[Message] = []
    if request.reason:
        details.append(
            error_details_pb2.ErrorInfo(
                reason=request.reason, domain="probe", metadata=dict(request.metadata)
            )
        )
    if request.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=name, description="is wrong")
            for name in request.fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if request.HasField("retry_delay"):
        details.append(error_details_pb2.RetryInfo(retry_delay=request.retry_delay))
    return details
