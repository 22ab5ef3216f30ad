"""Streaming RPCs: a format is chosen, the call is made, and Falcon sends the responses."""

from dataclasses import dataclass
from functools import partial

import falcon.asgi

from gateway.calls.concurrency_limit import ConcurrencyLimit
from gateway.calls.event_stream import END_ID, EventStream, read_id
from gateway.calls.formats import JsonArray, JsonLines, RawBytes, StreamFormat
from gateway.calls.open_streams import OpenStreams
from gateway.calls.relay import Mark, Relay
from gateway.calls.requests import read_message, read_messages
from gateway.calls.responses import RAW_HEADERS, raw_content_type, write_response
from gateway.calls.stream_body import StreamBody
from gateway.http.accounts import Accounts
from gateway.http.exchange import Exchange
from gateway.http.media_types import (
    BINARY,
    EVENT_STREAM,
    JSON,
    NDJSON,
    NDJSON_ALIASES,
    choose_media_type,
)
from gateway.http.metadata import call_metadata, call_timeout_seconds, success_headers
from gateway.http.problems import Problem
from gateway.routing.transcoding import RequestParts
from gateway.upstream.channels import Upstream

MAX_TIMEOUT_SECONDS = 30 * 86_400.0
"""The longest deadline of a stream that a client may set. A deadline that overflows gRPC's
nanoseconds would count as passed."""

_OFFERED = (NDJSON, EVENT_STREAM, JSON, *NDJSON_ALIASES)
"""The media types that a client chooses from by Accept, the default first."""


@dataclass(frozen=True, slots=True)
class StreamCalls:
    """Makes the streaming calls of one descriptor set."""

    upstream: Upstream
    streams: OpenStreams
    open_bodies: ConcurrencyLimit
    accounts: Accounts

    async def serve(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        """Serve a request; the response is whole, or a stream that continues after this returns.

        Raises:
            Problem: the response to send instead.
            ClientGoneError: the client disconnected before the request was complete.
            UnwritableError: JSON cannot represent the response of the service.
        """
        if not parts.route.rpc.server_streaming:
            await self._serve_whole(parts, exchange, resp)
        elif parts.route.response.raw_type is not None:
            await self._serve_raw(parts, exchange, resp)
        else:
            await self._serve_records(parts, exchange, resp)

    async def _serve_whole(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        relay = await self._make_relay(parts, exchange)
        try:
            relay.begin()
            message = await relay.result()
            headers = success_headers(*await relay.metadata())
        finally:
            await relay.close()
        write_response(parts.route, message, headers).apply(resp)

    async def _serve_raw(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        """Serve bytes in their only format, regardless of Accept."""
        relay = await self._make_relay(parts, exchange)
        response = parts.route.response
        body = StreamBody(relay, RawBytes(response.write), exchange)
        first = await body.start()
        resp.content_type = BINARY if isinstance(first, Mark) else raw_content_type(response, first)
        resp.set_headers(dict(RAW_HEADERS))
        resp.stream = body  # type: ignore[assignment]

    async def _serve_records(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        resp.append_header("Vary", "Accept")
        media_type = choose_media_type(exchange.list_header(b"accept") or "", _OFFERED)
        if media_type is None:
            detail = f"Responses of this stream can be {', '.join(_OFFERED)}."
            raise Problem(406, "INVALID_ARGUMENT", detail, "NOT_ACCEPTABLE")
        dump, last_id = parts.route.response.write, ""
        stream_format: StreamFormat
        if media_type == EVENT_STREAM:
            last_id = read_id(exchange.header(b"last-event-id"))
            stream_format = EventStream(dump, parts.route.resumption, last_id)
        else:
            stream_format = JsonArray(dump) if media_type == JSON else JsonLines(dump)
        resp.set_headers(stream_format.headers)
        if last_id == END_ID:
            # It makes EventSource stop (HTML Living Standard §9.2.3).
            resp.status = 204
            return
        relay = await self._make_relay(parts, exchange, last_id)
        body = StreamBody(relay, stream_format, exchange)
        await body.start()
        resp.content_type = media_type
        resp.stream = body  # type: ignore[assignment]

    async def _make_relay(
        self, parts: RequestParts, exchange: Exchange, last_id: str = ""
    ) -> Relay:
        """Make the relay of a call that resumes after the event `last_id`, if it can."""
        route = parts.route
        await self.accounts.find(exchange)  # Streams are counted for it.
        timeout = call_timeout_seconds(exchange, MAX_TIMEOUT_SECONDS)
        metadata = call_metadata(exchange, route.rpc.request_headers)
        options = {"timeout": timeout, "metadata": metadata}
        call = self.upstream.call(route.rpc)
        if route.rpc.client_streaming:
            requests = read_messages(parts, exchange)
            return Relay(partial(call, **options), exchange, self.streams, requests)
        request = await read_message(parts, exchange, self.open_bodies)
        if last_id and route.resumption is not None:
            setattr(request, route.resumption.request_field, last_id)
        return Relay(partial(call, request, **options), exchange, self.streams)
