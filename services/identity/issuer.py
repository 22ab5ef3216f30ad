"""The user service as the issuer of access tokens, for the other services."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

import grpc

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client, errors
from chassis.jwks import REFRESH_SECONDS, KeySet
from chassis.revocations import Revocations
from chassis.service import Resources
from chassis.supervision import BackgroundTask
from chassis.tokens import REVOCATION_SECONDS, Verifier

PEER = "UserService"
RETRY_SECONDS = 0.5
"""How long after a failure the user service is called again."""
SILENCE_SECONDS = 10.0
"""How long the user service may be silent before it is watched anew. It sends more often."""


def make_verifier(resources: Resources, _servicer: object) -> Verifier:
    """Return a verifier of the tokens that the user service issues.

    Tasks keep its keys and the revoked sessions up to date. Nobody is trusted before both are
    known. While the user service is down after that, known keys go on verifying, and tokens of
    sessions that end meanwhile are valid until they expire.
    """
    channel = resources.channels[PEER]
    stub: user_pb2_grpc.UserServiceAsyncStub
    stub = user_pb2_grpc.UserServiceStub(channel)
    keys = KeySet(partial(_fetch_keys, stub))
    revocations = Revocations(REVOCATION_SECONDS)
    follow = partial(_follow_revocations, channel, stub, revocations)
    resources.tasks.extend(
        [
            BackgroundTask("refresh_keys", keys.refresh, REFRESH_SECONDS, RETRY_SECONDS),
            BackgroundTask("follow_revocations", follow, RETRY_SECONDS, RETRY_SECONDS),
        ]
    )
    return Verifier(keys, revocations)


async def _fetch_keys(stub: "user_pb2_grpc.UserServiceAsyncStub") -> bytes:
    return (await client.call(stub.GetJwks, user_pb2.GetJwksRequest())).data


async def _follow_revocations(
    channel: grpc.aio.Channel, stub: "user_pb2_grpc.UserServiceAsyncStub", revocations: Revocations
) -> None:
    """Add sessions as they are revoked, until the stream should begin anew.

    Raises:
        errors.Unavailable: the user service is down, stops, or is silent.
    """
    request = user_pb2.WatchRevocationsRequest()
    async with aclosing(client.watch(channel, stub.WatchRevocations, request)) as responses:
        while (response := await _read(responses)) is not None:
            for revocation in response.revocations:
                revocations.revoke(uuid.UUID(revocation.session_id))
            revocations.known.set()


async def _read(
    responses: AsyncIterator[user_pb2.WatchRevocationsResponse],
) -> user_pb2.WatchRevocationsResponse | None:
    """Return the next response, None at the end."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await anext(responses, None)
    except TimeoutError as error:
        message = "The user service does not say which sessions end."
        raise errors.Unavailable("REVOCATIONS_UNKNOWN", message) from error
