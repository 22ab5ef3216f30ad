"""Who may call which RPC: the option access.v1.access, enforced for each call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from access.v1 import access_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from chassis import errors
from chassis.caller import Caller, Role
from chassis.codec import Context
from chassis.tokens import Verifier

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
        ValueError: an RPC does not declare who may call it.
    """
    return {f"/{service.full_name}/{rpc.name}": _read_rule(rpc) for rpc in service.methods}


def _read_rule(rpc: MethodDescriptor) -> Rule:
    option = rpc.GetOptions().Extensions[access_pb2.access]
    if not option.allow and not option.services:
        raise ValueError(f"{rpc.full_name} does not declare access.v1.access")
    return Rule(
        frozenset[Role]().union(*(_ROLES[kind] for kind in option.allow)),
        access_pb2.PUBLIC in option.allow,
        frozenset(option.services),
    )


class AccessControl:
    """Decides whether calls are allowed."""

    def __init__(self, rules: Rules, verifier: Verifier) -> None:
        self._rules = rules
        self.verifier = verifier

    async def check(self, path: str, context: Context) -> Caller | None:
        """Return the user who calls; None for a service, or anybody.

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
            caller = await self.verifier.verify(token)
            if caller.role not in rule.roles:
                raise errors.PermissionDenied("ROLE_MISSING", "Your role may not do this.")
            return caller
        if rule.services:
            _check_peer(rule, context)
        elif not rule.is_public:
            message = "This needs an access token: log in, and send it as Authorization: Bearer."
            raise errors.Unauthenticated("TOKEN_MISSING", message)
        return None


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
    if not properties:
        return
    # gRPC has it only for a certificate with exactly one URI, as SPIFFE demands.
    found = b"".join(properties.get("peer_spiffe_id", ())).decode()
    if found.removeprefix(_SPIFFE_TRUST_DOMAIN) not in rule.services:
        message = "Your certificate is not that of a service that may call this."
        raise errors.PermissionDenied("CALLER_NOT_ALLOWED", message)
