"""The user service as the issuer of access tokens, for the other services."""

import uuid
from contextlib import aclosing
from functools import partial

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import client
from chassis.jwks import REFRESH_SECONDS, KeySet
from chassis.revocations import Revocations
from chassis.service import Resources
from chassis.supervision import BackgroundTask
from chassis.tokens import LIFETIME_SECONDS, Verifier

PEER = "UserService"
RECONNECT_SECONDS = 0.5


def make_verifier(resources: Resources, _servicer: object) -> Verifier:
    """Return a verifier of the tokens that the user service issues.

    Tasks keep its keys and the revoked sessions up to date. While the user service is down, known
    keys go on verifying, and tokens of sessions that end meanwhile are valid until they expire.
    """
    stub: user_pb2_grpc.UserServiceAsyncStub
    stub = user_pb2_grpc.UserServiceStub(resources.channels[PEER])
    keys = KeySet(partial(_fetch_keys, stub))
    revocations = Revocations(LIFETIME_SECONDS)
    follow = partial(_follow_revocations, stub, revocations)
    resources.tasks.extend(
        [
            BackgroundTask("refresh_keys", keys.refresh, REFRESH_SECONDS),
            BackgroundTask("follow_revocations", follow, RECONNECT_SECONDS),
        ]
    )
    return Verifier(keys, revocations)


async def _fetch_keys(stub: "user_pb2_grpc.UserServiceAsyncStub") -> bytes:
    return (await client.call(stub.GetJwks, user_pb2.GetJwksRequest())).data


async def _follow_revocations(
    stub: "user_pb2_grpc.UserServiceAsyncStub", revocations: Revocations
) -> None:
    """Add sessions as they are revoked; end when the user service stops."""
    request = user_pb2.WatchRevocationsRequest()
    async with aclosing(client.watch(stub.WatchRevocations, request)) as responses:
        async for response in responses:
            for revocation in response.revocations:
                revocations.revoke(uuid.UUID(revocation.session_id))
