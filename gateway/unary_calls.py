"""Unary RPCs: one request read, one gRPC call made, one answer written."""

from dataclasses import dataclass

import grpc

from gateway.errors import from_rpc_error
from gateway.exchange import Exchange
from gateway.idempotency import IdempotencyRecords, make_claim
from gateway.json_codec import JsonCodec
from gateway.replies import Reply, make_reply
from gateway.request_messages import read_message
from gateway.transcoding import RequestParts
from gateway.upstream import Upstream

MAX_TIMEOUT_SECONDS = 300.0
"""The longest deadline of a unary call that a client may ask for."""

LEASE_HEADROOM_SECONDS = 5.0
"""How much longer than its call an idempotency claim is held."""


@dataclass(frozen=True, slots=True)
class UnaryCalls:
    """Makes the unary calls of one descriptor set."""

    codec: JsonCodec
    upstream: Upstream
    records: IdempotencyRecords
    call_timeout_seconds: float

    async def serve(self, parts: RequestParts, exchange: Exchange) -> Reply:
        """Serve a request; one with an Idempotency-Key is performed once.

        Raises:
            Problem: what the client is told instead of an answer.
            errors.Unavailable: the gateway's own database is needed and down.
            ClientGoneError: the client left before the request was complete.
        """
        request = await read_message(parts, exchange)
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
            return make_reply(self.codec, parts.route, answer)

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
