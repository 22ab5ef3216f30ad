"""Unary RPCs: one request is read, one gRPC call made, and one response written."""

from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import grpc
from google.protobuf.message import Message

from chassis import call_context
from gateway.calls.client_watch import ClientWatch
from gateway.calls.concurrency_limit import ConcurrencyLimit
from gateway.calls.idempotency import IdempotencyRecords, make_claim
from gateway.calls.requests import read_message
from gateway.calls.responses import Response, write_response
from gateway.http.accounts import Accounts
from gateway.http.conditions import Conditions, read_conditions
from gateway.http.exchange import Exchange
from gateway.http.metadata import (
    call_metadata,
    call_timeout_seconds,
    retry_headers,
    success_headers,
)
from gateway.http.statuses import from_rpc_error
from gateway.rates.limiter import RateLimiter
from gateway.routing.cookie import SESSION_HEADER, SESSION_VALUE, Cookie
from gateway.routing.routes import Route
from gateway.routing.transcoding import RequestParts
from gateway.upstream.channels import Upstream

MAX_TIMEOUT_SECONDS = 300.0
"""The longest deadline of a unary call that a client may set."""


@dataclass(frozen=True, slots=True)
class UnaryCalls:
    """Makes the unary calls of one descriptor set."""

    upstream: Upstream
    records: IdempotencyRecords
    accounts: Accounts
    rate_limiter: RateLimiter
    call_timeout_seconds: float
    open_bodies: ConcurrencyLimit
    """Counts requests of a client whose bodies are not complete."""
    calls: ConcurrencyLimit
    """Counts calls of a method, until their responses are written."""
    client_watch: ClientWatch = field(default_factory=ClientWatch)

    async def serve(self, parts: RequestParts, exchange: Exchange) -> Response:
        """Serve a request; one with an Idempotency-Key is performed once.

        If the client disconnects, the call is cancelled, unless it has a key: then it runs to its
        end, and its response is recorded for a repeated request.

        Raises:
            Problem: the response to send instead.
            errors.Unavailable: the gateway's own database is needed, and down or frozen.
            errors.DeadlineExceeded: it is needed and slow; nothing was performed.
            UnwritableError: JSON cannot represent the response of the service.
            ClientGoneError: the client disconnected before the response was complete.
        """
        route = parts.route
        conditions = read_conditions(exchange)
        request = await read_message(parts, exchange, self.open_bodies)
        # Not earlier: a slow client would keep others from calling the method.
        with self.calls.of(route.rpc.name):
            return await self._serve_whole(route, request, conditions, exchange)

    async def _serve_whole(
        self, route: Route, request: Message, conditions: Conditions | None, exchange: Exchange
    ) -> Response:
        """Serve a request that has arrived."""
        cookie = route.cookie if _asks_for_cookie(exchange) else None
        if cookie is not None:
            cookie.fill(request, exchange.cookies, secure=exchange.needs_secure_cookies)
        if route.rate_limit is not None:
            for value in route.rate_limit.values(request, exchange.client):
                await self.rate_limiter.admit_call(exchange, value)
        if conditions is not None:
            route.preconditions.admit(conditions, request)
        timeout = call_timeout_seconds(exchange, MAX_TIMEOUT_SECONDS)
        if timeout is None:
            timeout = self.call_timeout_seconds
        metadata = call_metadata(exchange, route.rpc.request_headers)
        key = exchange.header(b"idempotency-key") if route.takes_idempotency_key else ""
        # The route of any method takes a key too, but only with POST.
        recorded = bool(key) and exchange.method == "POST" and not route.only_validates(request)
        attempt = _Attempt(
            route, request, timeout, metadata, conditions, cookie, exchange, recorded
        )
        if not recorded:
            return await self._perform(attempt)
        account = await self.accounts.find(exchange)
        claim = make_claim(
            method=exchange.method,
            path=exchange.raw_path,
            account=account.name,
            key=key,
            request=request.SerializeToString(deterministic=True),
        )
        perform = partial(self._perform, attempt)
        with call_context.time_limit(timeout):
            return await self.records.perform_once(
                claim,
                perform,
                # Anybody could fill the table with requests that nobody has to be allowed to send.
                keeps_failures=account.is_verified or not self.accounts.can_verify,
            )

    async def _perform(self, attempt: "_Attempt") -> Response:
        route, conditions = attempt.route, attempt.conditions
        timeout = call_context.remaining_seconds(attempt.timeout_seconds)
        call = self.upstream.call(route.rpc)(
            attempt.request, timeout=timeout, metadata=attempt.metadata
        )
        try:
            if attempt.recorded:
                message = await call
            else:
                with self.client_watch.over(call, attempt.exchange.body):
                    message = await call
        except grpc.aio.AioRpcError as error:
            problem = from_rpc_error(error)
            if conditions is not None:
                conditions.refine_status(problem)
            attempt.exchange.note_failure(problem, error.details() or "")
            raise problem from error
        if attempt.cookie is not None:
            secure = attempt.exchange.needs_secure_cookies
            attempt.exchange.set_cookie = attempt.cookie.take(message, secure=secure)
        received = await call.initial_metadata(), await call.trailing_metadata()
        sent = success_headers(*received)
        if route.rpc.may_be_accepted:
            sent |= retry_headers(*received)
        validated = route.only_validates(attempt.request)
        response = write_response(route, message, sent, validated=validated)
        tag = response.headers.get("ETag", "")
        if conditions is not None and route.preconditions.is_unmodified(conditions, tag):
            return Response(HTTPStatus.NOT_MODIFIED, b"", {"ETag": tag} if tag else {})
        return response


def _asks_for_cookie(exchange: Exchange) -> bool:
    return exchange.header(SESSION_HEADER.lower().encode()) == SESSION_VALUE


class _Attempt(NamedTuple):
    """One request and the call that it becomes."""

    route: Route
    request: Message
    timeout_seconds: float
    metadata: list[tuple[str, str]]
    conditions: Conditions | None
    cookie: Cookie | None
    exchange: Exchange
    recorded: bool
