"""The sessions that tests begin, refresh and end through the gateway.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from session.v1 import session_pb2, session_pb2_grpc

from chassis.token_testing import Issuer
from gateway.testing.serving import listening

Context = grpc.aio.ServicerContext[Message, Message]

LIFETIME_SECONDS = 3_600


@dataclass
class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """One session, whose latest refresh token is known, and no account."""

    requests: list[Message] = field(default_factory=list)
    refresh_token: str = ""
    issuer: Issuer = field(default_factory=Issuer)
    """Whose keys are served; tests sign tokens by it."""
    publishes: bool = True
    """Whether the keys can be fetched."""
    counts: bool = True
    """Whether calls can be counted."""

    async def Login(self, request: session_pb2.LoginRequest, _: Context) -> session_pb2.Tokens:
        """Begin the session."""
        self.requests.append(request)
        return self._renew()

    async def RefreshSession(
        self, request: session_pb2.RefreshSessionRequest, context: Context
    ) -> session_pb2.Tokens:
        """Replace the tokens."""
        self.requests.append(request)
        await self._check(request.refresh_token, context)
        return self._renew()

    async def Logout(self, request: session_pb2.LogoutRequest, context: Context) -> empty_pb2.Empty:
        """End the session."""
        self.requests.append(request)
        await self._check(request.refresh_token, context)
        self.refresh_token = ""
        return empty_pb2.Empty()

    async def GetKeys(
        self, _request: session_pb2.GetKeysRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Return the keys of the issuer, if it publishes them."""
        if not self.publishes:
            await context.abort(grpc.StatusCode.INTERNAL, "The keys are locked away.")
        data = await self.issuer.publish()
        return httpbody_pb2.HttpBody(content_type="application/json", data=data)

    async def CountCalls(
        self, request: session_pb2.CountCallsRequest, context: Context
    ) -> session_pb2.CountCallsResponse:
        """Count this call too."""
        self.requests.append(request)
        if not self.counts:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is nothing to count.")
        return session_pb2.CountCallsResponse(count=len(self.requests))

    async def WatchCalls(
        self, _request: session_pb2.WatchCallsRequest, _: Context
    ) -> AsyncIterator[session_pb2.CountCallsResponse]:
        """Return the count, and wait until the call is cancelled."""
        yield session_pb2.CountCallsResponse(count=len(self.requests))
        await asyncio.Event().wait()

    def _renew(self) -> session_pb2.Tokens:
        number = len(self.requests)
        self.refresh_token = f"refresh-{number}"
        tokens = session_pb2.Tokens(
            access_token=f"access-{number}", refresh_token=self.refresh_token
        )
        tokens.refresh_expire_time.FromSeconds(int(time.time()) + LIFETIME_SECONDS)
        return tokens

    async def _check(self, token: str, context: Context) -> None:
        if not token or token != self.refresh_token:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Not the latest refresh token.")


@asynccontextmanager
async def serve_sessions() -> AsyncIterator[tuple[SessionServicer, int]]:
    """Serve on a free port; yield the servicer and the port."""
    servicer = SessionServicer()
    server = grpc.aio.server()
    session_pb2_grpc.add_SessionServiceServicer_to_server(servicer, server)
    async with listening(server) as port:
        yield servicer, port
