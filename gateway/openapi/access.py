"""Who may call an operation, where its RPC declares that by the option access.v1.access."""

from typing import Any

from gateway.openapi.comments import Comments
from gateway.routing.routes import Route

SCHEME = "authorization"
"""The name of the security scheme."""

_PUBLIC = "PUBLIC"
_UNAUTHENTICATED = "`UNAUTHENTICATED` if the access token is not valid"
_WRONG_CALLER = "`PERMISSION_DENIED` if the caller may not do this."


def is_public(route: Route) -> bool:
    """Return whether an operation declares that anybody may call it."""
    return any(caller.endswith(f".{_PUBLIC}") for caller in route.rpc.callers)


def security(route: Route) -> dict[str, Any]:
    """Return the security requirement of an operation, if it declares one."""
    if not route.rpc.callers:
        return {}
    return {"security": [] if is_public(route) else [{SCHEME: []}]}


def describe_callers(route: Route, comments: Comments) -> str:
    """Return a list of those who may call an operation, by the comments of the option's values."""
    callers = [
        comments.of(caller) or f"{caller.rpartition('.')[2]}." for caller in route.rpc.callers
    ]
    return "\n".join(["Who may call this:", "", *(f"- {caller}" for caller in callers)])


def refusals(route: Route) -> dict[int, str]:
    """Return the descriptions of the refusals of callers, by HTTP status."""
    if not route.rpc.callers:
        return {}
    if is_public(route):
        return {401: f"{_UNAUTHENTICATED}; none is needed."}
    return {401: f"{_UNAUTHENTICATED}, or is missing.", 403: _WRONG_CALLER}
