"""Serves one HTTP request: finds its route, makes the gRPC call, and writes the answer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import falcon.asgi
import grpc
from google.protobuf.message import Message

from gateway.errors import Problem, from_rpc_error, invalid_argument
from gateway.exchange import Exchange
from gateway.idempotency import IdempotencyRecords, Reply, check_key, make_claim
from gateway.json_codec import JsonCodec
from gateway.streaming import Encoding, OpenStreams, Relay
from gateway.templates import Match, PathError, PathTree
from gateway.transcoding import QueryPairs, RequestParts, Route
from gateway.upstream import Upstream

JSON = "application/json"
NDJSON = "application/x-ndjson"
NDJSON_NAMES = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
BINARY = "application/octet-stream"

MAX_QUERY_PARAMETERS = 200
MAX_TIMEOUT_SECONDS = 300.0
"""The longest deadline of a unary call that a client may ask for."""

LEASE_HEADROOM_SECONDS = 5.0
"""How much longer than its call an idempotency claim is held."""


@dataclass(frozen=True, slots=True)
class Handler:
    """Serves the routes of one descriptor set."""

    routes: PathTree[Route]
    codec: JsonCodec
    upstream: Upstream
    records: IdempotencyRecords
    streams: OpenStreams
    call_timeout_seconds: float

    async def serve(self, exchange: Exchange, method: str, resp: falcon.asgi.Response) -> None:
        """Serve a request.

        Raises:
            Problem: what the client is told instead of an answer.
            errors.Unavailable: the gateway's own database is needed and down.
            ClientGoneError: the client left before the request was complete.
        """
        match = self._find(method, exchange.raw_path)
        route = match.target
        exchange.rpc = route.rpc.name
        if exchange.has_header(b"idempotency-key"):
            check_key(exchange.header(b"idempotency-key"))
        parts = RequestParts(route, self.codec, match.variables, _query_pairs(exchange.query))
        if route.rpc.client_streaming or route.rpc.server_streaming:
            await self._serve_stream(parts, exchange, resp)
        else:
            _apply(await self._serve_unary(parts, exchange), resp)
        exchange.code = "OK"

    def _find(self, method: str, raw_path: str) -> Match[Route]:
        try:
            found = self.routes.find(method, raw_path)
            if method == "HEAD" and not isinstance(found, Match) and "GET" in found:
                get = self.routes.find("GET", raw_path)
                if isinstance(get, Match) and not get.target.rpc.server_streaming:
                    found = get
        except PathError as error:
            raise invalid_argument(str(error), "INVALID_PATH") from error
        if isinstance(found, Match):
            return found
        if not found:
            raise Problem(404, "NOT_FOUND", "There is nothing at this path.", "UNKNOWN_PATH")
        raise Problem(
            status=405,
            code="UNIMPLEMENTED",
            detail=f"This path does not take {method}.",
            reason="METHOD_NOT_ALLOWED",
            headers={"Allow": ", ".join(sorted(found))},
        )

    async def _serve_unary(self, parts: RequestParts, exchange: Exchange) -> Reply:
        request = await _read_message(parts, exchange)
        asked = exchange.timeout_seconds()
        timeout = self.call_timeout_seconds if asked is None else min(asked, MAX_TIMEOUT_SECONDS)
        metadata = exchange.metadata()

        async def perform() -> Reply:
            try:
                answer = await self.upstream.call(parts.route.rpc)(
                    request, timeout=timeout, metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                problem = from_rpc_error(error)
                exchange.note_failure(problem, error.details() or "")
                raise problem from error
            return self._reply(parts.route, answer)

        if parts.route.http_method != "POST" or not exchange.has_header(b"idempotency-key"):
            return await perform()
        claim = make_claim(
            method=parts.route.http_method,
            path=exchange.raw_path,
            authorization=exchange.header(b"authorization"),
            key=exchange.header(b"idempotency-key"),
            request=request.SerializeToString(deterministic=True),
        )
        return await self.records.answer(claim, perform, timeout + LEASE_HEADROOM_SECONDS)

    async def _serve_stream(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        rpc = parts.route.rpc
        options = {"timeout": exchange.timeout_seconds(), "metadata": exchange.metadata()}
        make = self.upstream.call(rpc)
        encoding = self._encoding(parts)
        if rpc.client_streaming:
            requests = _read_messages(parts, exchange)
            relay = Relay(make(**options), exchange, self.streams, encoding, requests)
        else:
            request = await _read_message(parts, exchange)
            relay = Relay(make(request, **options), exchange, self.streams, encoding)
        if not rpc.server_streaming:
            _apply(self._reply(parts.route, await relay.result()), resp)
            return
        first = await relay.start()
        raw = parts.route.returns_raw
        resp.content_type = _raw_type(parts.route, first) if raw else NDJSON
        resp.stream = relay  # type: ignore[assignment]

    def _encoding(self, parts: RequestParts) -> Encoding:
        route = parts.route
        if route.returns_raw:
            return Encoding(lambda message: _raw(route, message).data, records=False)
        field = route.response_field
        if field is None:
            return Encoding(self.codec.dump_line, records=True)
        return Encoding(lambda message: self.codec.dump_field(message, field) + b"\n", records=True)

    def _reply(self, route: Route, answer: Message) -> Reply:
        if route.returns_nothing:
            return Reply(204, b"")
        if route.returns_raw:
            return Reply(200, _raw(route, answer).data, {"Content-Type": _raw_type(route, answer)})
        field = route.response_field
        body = self.codec.dump(answer) if field is None else self.codec.dump_field(answer, field)
        return Reply(200, body, {"Content-Type": JSON})


async def _read_message(parts: RequestParts, exchange: Exchange) -> Message:
    """Read the body of a request that is one message."""
    binding = parts.route.body
    content_type = exchange.header(b"content-type")
    if binding is None:
        if exchange.body.expected:
            raise invalid_argument("This request takes no body.", "UNEXPECTED_BODY")
        return parts.message(b"", content_type)
    body = await exchange.body.read()
    if body and not binding.raw:
        _check_type(content_type, {JSON})
    return parts.message(body, content_type)


async def _read_messages(parts: RequestParts, exchange: Exchange) -> AsyncIterator[Message]:
    """Read the body of a request that is a stream of messages, as it comes."""
    content_type = exchange.header(b"content-type")
    if parts.route.body is not None and parts.route.body.raw:
        async for chunk in exchange.body.chunks():
            yield parts.message(chunk, content_type)
        return
    if exchange.body.expected:
        _check_type(content_type, NDJSON_NAMES)
    number = 0
    async for line in exchange.body.lines():
        number += 1
        try:
            message = parts.message(line, content_type)
        except Problem as problem:
            problem.detail = f"Record {number}: {problem.detail}"
            problem.metadata = {**problem.metadata, "record": str(number)}
            raise
        yield message


def _check_type(content_type: str, wanted: frozenset[str] | set[str]) -> None:
    """Refuse a body of another type; JSON is UTF-8 (RFC 8259), and no type is taken for it."""
    name, _, parameters = content_type.lower().partition(";")
    charset = parameters.strip().replace('"', "")
    if (name.strip() in wanted or not content_type) and charset in ("", "charset=utf-8"):
        return
    names = " or ".join(sorted(wanted))
    detail = f"The body must be {names}, in UTF-8."
    raise Problem(415, "INVALID_ARGUMENT", detail, "UNSUPPORTED_MEDIA_TYPE")


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


def _raw(route: Route, answer: Message) -> Any:
    """Return the google.api.HttpBody of an answer."""
    field = route.response_field
    return answer if field is None else getattr(answer, field.name)


def _raw_type(route: Route, answer: Message | None) -> str:
    named: str = "" if answer is None else _raw(route, answer).content_type
    return named if named and named.isascii() and named.isprintable() else BINARY


def _apply(reply: Reply, resp: falcon.asgi.Response) -> None:
    resp.status = reply.status
    resp.data = reply.body
    for name, value in reply.headers.items():
        resp.set_header(name, value)
