"""The keys that verify access tokens, from the RPC that serves them to clients (RFC 7517)."""

import grpc

from chassis import errors
from chassis.jwks import KeySet
from gateway.routing.routes import Route
from gateway.routing.templates import Match, PathTree
from gateway.upstream.channels import Upstream

PATH = "/.well-known/jwks.json"


def find_keys(routes: PathTree[Route], upstream: Upstream) -> KeySet | None:
    """Return the keys, which are not fetched yet, or None where no RPC has any."""
    match = routes.find("GET", PATH)
    if not isinstance(match, Match) or match.target.rpc.server_streaming:
        return None
    route: Route = match.target

    async def fetch() -> bytes:
        try:
            response = await upstream.call(route.rpc)(route.rpc.request_class())
        except grpc.aio.AioRpcError as error:
            message = "The keys that verify tokens cannot be fetched."
            raise errors.Unavailable("KEYS_UNAVAILABLE", message) from error
        return route.response.write(response)

    return KeySet(fetch)
