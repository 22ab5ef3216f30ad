"""Streaming RPCs: the form of the answers is chosen, the call is made, and both are handed on."""

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter

import falcon.asgi
from google.protobuf.message import Message

from gateway.calls.formats import FORMATS, Answers, RawBytes
from gateway.calls.open_streams import OpenStreams
from gateway.calls.relay import Mark, Relay
from gateway.calls.requests import read_message, read_messages
from gateway.calls.responses import RAW_HEADERS, Replies, raw_type
from gateway.calls.resumption import END_ID, find_resumption, read_id
from gateway.calls.stream_body import StreamBody
from gateway.http.exchange import Exchange
from gateway.http.media_types import EVENT_STREAM, choose_media_type
from gateway.http.metadata import success_headers
from gateway.http.problems import Problem
from gateway.protojson.codec import JsonCodec
from gateway.routing.routes import Route
from gateway.routing.transcoding import RequestParts
from gateway.upstream.channels import Upstream

MAX_TIMEOUT_SECONDS = 30 * 86_400.0
"""The longest deadline of a stream that a client may ask for. A deadline that overflows gRPC's
nanoseconds would count as passed."""

_OFFERED = tuple(FORMATS)


class StreamCalls:
    """Makes the streaming calls of one descriptor set."""

    def __init__(
        self,
        routes: Iterable[Route],
        codec: JsonCodec,
        replies: Replies,
        upstream: Upstream,
        streams: OpenStreams,
    ) -> None:
        """Compile what the answers of each route are."""
        self._replies = replies
        self._upstream = upstream
        self._streams = streams
        self._answers = {
            route: Answers(_dumper(route, codec), find_resumption(route.rpc))
            for route in routes
            if route.rpc.server_streaming
        }

    async def serve(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        """Serve a request; the answer is whole, or a stream that goes on after this returns.

        Raises:
            Problem: what the client is told instead of an answer.
            ClientGoneError: the client left before the request was complete.
        """
        if not parts.route.rpc.server_streaming:
            await self._serve_whole(parts, exchange, resp)
        elif parts.route.returns_raw:
            await self._serve_raw(parts, exchange, resp)
        else:
            await self._serve_records(parts, exchange, resp)

    async def _serve_whole(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        relay = await self._make_relay(parts, exchange)
        try:
            relay.begin()
            answer = await relay.result()
            sent = success_headers(*await relay.metadata())
        finally:
            await relay.close()
        self._replies.make(parts.route, answer, sent).apply(resp)

    async def _serve_raw(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        """Serve bytes in the only form that they have, whatever Accept says."""
        relay = await self._make_relay(parts, exchange)
        body = StreamBody(relay, RawBytes(self._answers[parts.route]), exchange)
        first = await body.start()
        resp.content_type = raw_type(parts.route, None if isinstance(first, Mark) else first)
        resp.set_headers(dict(RAW_HEADERS))
        resp.stream = body  # type: ignore[assignment]

    async def _serve_records(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        resp.append_header("Vary", "Accept")
        media_type = choose_media_type(exchange.list_header(b"accept") or "", _OFFERED)
        if media_type is None:
            raise _not_acceptable()
        last_id = ""
        if media_type == EVENT_STREAM:
            last_id = read_id(exchange.header(b"last-event-id"))
        form = FORMATS[media_type](self._answers[parts.route], last_id)
        resp.set_headers(form.headers)
        if last_id == END_ID:
            # It makes EventSource stop (HTML Living Standard §9.2.3).
            resp.status = 204
            return
        body = StreamBody(await self._make_relay(parts, exchange, last_id), form, exchange)
        await body.start()
        resp.content_type = media_type
        resp.stream = body  # type: ignore[assignment]

    async def _make_relay(
        self, parts: RequestParts, exchange: Exchange, last_id: str = ""
    ) -> Relay:
        rpc = parts.route.rpc
        timeout = exchange.timeout_seconds(MAX_TIMEOUT_SECONDS)
        options = {"timeout": timeout, "metadata": exchange.metadata()}
        call = self._upstream.call(rpc)
        if rpc.client_streaming:
            requests = read_messages(parts, exchange)
            return Relay(partial(call, **options), exchange, self._streams, requests)
        request = await read_message(parts, exchange)
        if last_id:
            self._resume(parts.route, request, last_id)
        return Relay(partial(call, request, **options), exchange, self._streams)

    def _resume(self, route: Route, request: Message, last_id: str) -> None:
        """Ask for what comes after an event; a stream that has no such place starts over."""
        resumption = self._answers[route].resumption
        if resumption is not None:
            setattr(request, resumption.request_field, last_id)


def _dumper(route: Route, codec: JsonCodec) -> Callable[[Message], bytes]:
    field = route.response_field
    if route.returns_raw:
        return attrgetter("data" if field is None else f"{field.name}.data")
    return codec.dump if field is None else partial(codec.dump_field, field=field)


def _not_acceptable() -> Problem:
    detail = f"Answers of this stream can be {', '.join(_OFFERED)}."
    return Problem(406, "INVALID_ARGUMENT", detail, "NOT_ACCEPTABLE")
