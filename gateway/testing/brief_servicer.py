"""The probe service for fuzzing: it responds soon, and never fails like a defect.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from probe.v1 import probe_pb2

from gateway.testing.servicer import Context, ProbeServicer

_MOST = 3
"""How many responses a stream sends at most."""


@dataclass
class BriefServicer(ProbeServicer):
    """The probe service without behaviour that takes long or looks like a defect of the gateway."""

    cancellation_seconds: float = 0.0

    async def GetProbe(self, request: probe_pb2.Probe, context: Context) -> probe_pb2.Probe:
        """Send back what JSON can represent."""
        _clear_what_json_cannot_hold(request)
        return await super().GetProbe(request, context)

    async def CreateProbe(self, request: probe_pb2.Probe, context: Context) -> probe_pb2.Probe:
        """Send back what JSON can represent."""
        _clear_what_json_cannot_hold(request)
        return await super().CreateProbe(request, context)

    async def Fail(self, request: probe_pb2.FailRequest, context: Context) -> empty_pb2.Empty:
        """Fail as the request says, but with FAILED_PRECONDITION."""
        request.code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
        return await super().Fail(request, context)

    async def Wait(self, request: probe_pb2.WaitRequest, context: Context) -> probe_pb2.Probe:
        """Respond at once."""
        return await super().Wait(probe_pb2.WaitRequest(), context)

    async def Watch(
        self, request: probe_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[probe_pb2.Probe]:
        """Stream a few probes."""
        async for probe in super().Watch(_brief(request), context):
            yield probe

    async def ListProbes(
        self, request: probe_pb2.ListProbesRequest, context: Context
    ) -> AsyncIterator[probe_pb2.ListProbesResponse]:
        """Stream a few pages."""
        brief = probe_pb2.ListProbesRequest(
            total=_MOST, page_size=1, page_token=await _token(request.page_token, context)
        )
        async for page in super().ListProbes(brief, context):
            yield page

    async def Follow(
        self, request: probe_pb2.FollowRequest, context: Context
    ) -> AsyncIterator[probe_pb2.FollowResponse]:
        """Stream a few events."""
        brief = probe_pb2.FollowRequest(
            last=_MOST, resume_token=await _token(request.resume_token, context)
        )
        async for event in super().Follow(brief, context):
            yield event

    async def Download(
        self, request: probe_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Stream a few lines."""
        async for piece in super().Download(_brief(request), context):
            yield piece


def _clear_what_json_cannot_hold(probe: probe_pb2.Probe) -> None:
    """Clear a mask with other than plain names: most of those, as `line_1`, are unwritable."""
    if not all(path.isascii() and path.isalpha() for path in probe.mask.paths):
        probe.ClearField("mask")


def _brief(request: probe_pb2.WatchRequest) -> probe_pb2.WatchRequest:
    return probe_pb2.WatchRequest(count=max(0, min(request.count, _MOST)), size=10)


async def _token(token: str, context: Context) -> str:
    if token and not (token.isascii() and token.isdigit()):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The token is not one of ours.")
    return token
