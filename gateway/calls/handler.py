"""Serves one HTTP request: finds its route, and has the route's call made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import falcon.asgi

from gateway.calls.idempotency import check_key
from gateway.calls.streaming import StreamCalls
from gateway.calls.unary import UnaryCalls
from gateway.http.conditions import read_conditions
from gateway.http.exchange import Exchange
from gateway.http.problems import Problem, invalid_argument
from gateway.rates.limiter import RateLimiter
from gateway.routing.rate_limit import RpcLimit
from gateway.routing.routes import Route
from gateway.routing.templates import ANY_METHOD, Match, PathError, PathTree
from gateway.routing.transcoding import QueryPairs, RequestParts

MAX_QUERY_PARAMETERS = 200

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_USUAL_METHODS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})
"""The methods in Allow for a rule that takes any method."""


@dataclass(frozen=True, slots=True)
class Handler:
    """Serves the routes of one descriptor set."""

    routes: PathTree[Route]
    unary_calls: UnaryCalls
    stream_calls: StreamCalls
    rate_limiter: RateLimiter

    async def serve(self, exchange: Exchange, method: str, resp: falcon.asgi.Response) -> None:
        """Serve a request.

        Raises:
            Problem: the response to send instead.
            errors.Unavailable: the gateway's own database is needed, and down or frozen.
            errors.DeadlineExceeded: it is needed and slow; nothing was performed.
            UnwritableError: JSON cannot represent the response of the service.
            ClientGoneError: the client disconnected before the request was complete.
        """
        match = self._find(method, exchange)
        if not isinstance(match, Match):
            resp.status = 204
            resp.set_header("Allow", _allow(match))
            return
        route = match.target
        exchange.rpc = route.rpc.name
        exchange.is_confidential |= route.rpc.not_recorded
        exchange.path = _describe_path(route.template.text, match.variables)
        if route.rate_limit is not None:
            await self._count(route.rate_limit, exchange)
        if exchange.has_header(b"idempotency-key"):
            check_key(exchange.header(b"idempotency-key"))
        parts = RequestParts(route, match.variables, _query_pairs(exchange.query))
        if route.rpc.client_streaming or route.rpc.server_streaming:
            if method == "HEAD" and route.rpc.server_streaming:
                raise _not_allowed(method, self.routes.methods(exchange.raw_path))
            conditions = read_conditions(exchange)
            if conditions is not None:
                route.preconditions.admit(conditions, None)
            await self.stream_calls.serve(parts, exchange, resp)
        else:
            (await self.unary_calls.serve(parts, exchange)).apply(resp)
        exchange.code = "OK"

    async def _count(self, limit: RpcLimit, exchange: Exchange) -> None:
        """Count a call of a method, as far as its headers tell who makes it."""
        await self.rate_limiter.admit_call(exchange, limit.client(exchange.client))
        if limit.account_quotas:
            account = await self.rate_limiter.accounts.find(exchange)
            if account.is_verified:
                await self.rate_limiter.admit_call(exchange, limit.account(account.name))

    def _find(self, method: str, exchange: Exchange) -> Match[Route] | frozenset[str]:
        """Find a route, or the methods of a path for OPTIONS without a route of its own.

        A CORS preflight (Fetch §4.8) finds the methods too, and never makes a call.
        """
        raw_path = exchange.raw_path
        found: Match[Route] | frozenset[str]
        try:
            if method == "OPTIONS" and _is_preflight(exchange):
                found = self.routes.methods(raw_path)
            else:
                found = self.routes.find(method, raw_path)
        except PathError as error:
            raise invalid_argument(str(error), "INVALID_PATH") from error
        if isinstance(found, Match) or (found and method == "OPTIONS"):
            return found
        if not found:
            raise Problem(404, "NOT_FOUND", "There is nothing at this path.", "UNKNOWN_PATH")
        raise _not_allowed(method, found)


def _describe_path(template: str, variables: Mapping[str, str]) -> str:
    """Return a path for the log: its template, with those variables that are UUIDs.

    Others may be anything, for example the e-mail address that a client takes for an id.
    """
    for name, value in variables.items():
        if _UUID.fullmatch(value) is not None:
            template = template.replace(f"{{{name}}}", value)
    return template


def _is_preflight(exchange: Exchange) -> bool:
    return exchange.has_header(b"origin") and exchange.has_header(b"access-control-request-method")


def _not_allowed(method: str, methods: frozenset[str]) -> Problem:
    return Problem(
        status=405,
        code="UNIMPLEMENTED",
        detail=f"This path does not take {method}.",
        reason="METHOD_NOT_ALLOWED",
        headers={"Allow": _allow(methods)},
    )


def _allow(methods: frozenset[str]) -> str:
    if ANY_METHOD in methods:
        methods = methods - {ANY_METHOD} | _USUAL_METHODS
    return ", ".join(sorted(methods | {"OPTIONS"}))


def _query_pairs(query: bytes) -> QueryPairs:
    if not query:
        return ()
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_QUERY_PARAMETERS,
        )
    except UnicodeDecodeError as error:
        raise invalid_argument("The query is not UTF-8.", "INVALID_QUERY") from error
    except ValueError as error:
        detail = f"The query has more than {MAX_QUERY_PARAMETERS} parameters."
        raise invalid_argument(detail, "INVALID_QUERY") from error
