"""Who may call which RPC: the option access.v1.access, enforced for each call."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from access.v1 import access_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from chassis import call_context, errors
from chassis.caller import Role
from chassis.codec import Context
from chassis.tokens import Verifier, expired

ResultT = TypeVar("ResultT")

_BEARER = "bearer "
_SPIFFE_TRUST_DOMAIN = "spiffe://bazaar/"
_EVERY_ROLE = frozenset(Role)
_ROLES: Final[Mapping[int, frozenset[Role]]] = {
    access_pb2.PUBLIC: _EVERY_ROLE,
    access_pb2.AUTHENTICATED: _EVERY_ROLE,
    access_pb2.OWNER: _EVERY_ROLE,
    access_pb2.STAFF: frozenset({Role.STAFF, Role.ADMIN}),
    access_pb2.ADMIN: frozenset({Role.ADMIN}),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call an RPC."""

    roles: frozenset[Role] = frozenset()
    is_public: bool = False
    services: frozenset[str] = frozenset()


PUBLIC: Final = Rule(_EVERY_ROLE, is_public=True)

Rules = Mapping[str, Rule]
"""The rules by the paths of RPCs, such as "/bazaar.user.v1.UserService/Login"."""


def read_rules(service: ServiceDescriptor) -> Rules:
    """Return the rules that a proto service declares.

    Raises:
        ValueError: an RPC does not declare who may call it, or contradicts itself.
    """
    return {f"/{service.full_name}/{rpc.name}": _read_rule(rpc) for rpc in service.methods}


def _read_rule(rpc: MethodDescriptor) -> Rule:
    option = rpc.GetOptions().Extensions[access_pb2.access]
    is_declared = option.allow or option.services
    if not is_declared or access_pb2.CALLER_UNSPECIFIED in option.allow:
        raise ValueError(f"{rpc.full_name} does not declare access.v1.access")
    if access_pb2.PUBLIC in option.allow and (len(option.allow) > 1 or option.services):
        raise ValueError(f"{rpc.full_name} is PUBLIC, and declares others beside")
    return Rule(
        frozenset[Role]().union(*(_ROLES[kind] for kind in option.allow)),
        access_pb2.PUBLIC in option.allow,
        frozenset(option.services),
    )


class AccessControl:
    """Decides whether calls are allowed."""

    def __init__(self, rules: Rules, verifier: Verifier) -> None:
        self._rules = rules
        self._verifier = verifier

    async def wait_until_known(self) -> None:
        """Wait, for as long as it takes, until it is known which sessions have ended."""
        await self._verifier.revocations.known.wait()

    async def check(self, path: str, context: Context) -> None:
        """Check who makes the call that is being served, and set its caller.

        Raises:
            errors.Unauthenticated: a token is missing (reason TOKEN_MISSING), or as for
                `Verifier.verify`.
            errors.PermissionDenied: the role of the user may not call the RPC (reason
                ROLE_MISSING), or the service may not (CALLER_NOT_ALLOWED).
            errors.Unavailable: as for `Verifier.verify`.
        """
        rule = self._rules[path]
        token = _read_token(context.invocation_metadata() or ())
        if token is not None and rule.roles:
            caller = await self._verifier.verify(token)
            if caller.role not in rule.roles:
                raise errors.PermissionDenied("ROLE_MISSING", "Your role may not do this.")
            call_context.set_caller(caller)
            structlog.contextvars.bind_contextvars(user_id=str(caller.user_id))
        elif rule.services:
            _check_peer(rule, context)
        elif not rule.is_public:
            message = "This needs an access token: log in, and send it as Authorization: Bearer."
            raise errors.Unauthenticated("TOKEN_MISSING", message)

    async def while_allowed(self, work: Awaitable[ResultT]) -> ResultT:
        """Await the next part of a stream, until the token or the session of its caller ends.

        Raises:
            errors.Unauthenticated: it did (reason TOKEN_EXPIRED or TOKEN_REVOKED).
        """
        caller = call_context.find_caller()
        if caller is None:
            return await work
        self._verifier.check(caller)
        limit = asyncio.timeout(caller.expire_time - time.time())
        try:
            async with limit:
                with self._verifier.revocations.ending(limit, caller.session_id):
                    return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._verifier.check(caller)
            raise expired() from error


def _read_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Return what the metadata `authorization` has as a bearer token (RFC 6750, section 2.1).

    Raises:
        errors.Unauthenticated: it has something else, or there are several.
    """
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        return None
    (value, *others) = values
    if others or not isinstance(value, str) or not value.lower().startswith(_BEARER):
        message = "Authorization must be one bearer token."
        raise errors.Unauthenticated("TOKEN_INVALID", message)
    return value[len(_BEARER) :].strip()


def _check_peer(rule: Rule, context: Context) -> None:
    """Check the service that calls, by its certificate.

    On a plain-text port, which only processes of this machine can reach, none has one and all are
    trusted.
    """
    properties = context.auth_context()
    if properties.get("transport_security_type") == [b"insecure"]:
        return
    # gRPC has it only for a certificate with exactly one URI, as SPIFFE demands.
    found = b"".join(properties.get("peer_spiffe_id", ())).decode()
    if found.removeprefix(_SPIFFE_TRUST_DOMAIN) not in rule.services:
        message = "Your certificate is not that of a service that may call this."
        raise errors.PermissionDenied("CALLER_NOT_ALLOWED", message)
