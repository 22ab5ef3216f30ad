"""Streaming RPCs: the gRPC call is made and handed to a relay, which passes messages on."""

from dataclasses import dataclass

import falcon.asgi

from gateway.exchange import Exchange
from gateway.json_codec import JsonCodec
from gateway.replies import make_reply, raw_body, raw_type
from gateway.request_messages import NDJSON, read_message, read_messages
from gateway.streaming import Encoding, OpenStreams, Relay
from gateway.transcoding import RequestParts
from gateway.upstream import Upstream


@dataclass(frozen=True, slots=True)
class StreamCalls:
    """Makes the streaming calls of one descriptor set."""

    codec: JsonCodec
    upstream: Upstream
    streams: OpenStreams

    async def serve(
        self, parts: RequestParts, exchange: Exchange, resp: falcon.asgi.Response
    ) -> None:
        """Serve a request; the answer is whole, or a stream that goes on after this returns.

        Raises:
            Problem: what the client is told instead of an answer.
            ClientGoneError: the client left before the request was complete.
        """
        rpc = parts.route.rpc
        options = {"timeout": exchange.timeout_seconds(), "metadata": exchange.metadata()}
        make = self.upstream.call(rpc)
        encoding = self._encoding(parts)
        if rpc.client_streaming:
            requests = read_messages(parts, exchange)
            relay = Relay(make(**options), exchange, self.streams, encoding, requests)
        else:
            request = await read_message(parts, exchange)
            relay = Relay(make(request, **options), exchange, self.streams, encoding)
        if not rpc.server_streaming:
            make_reply(self.codec, parts.route, await relay.result()).apply(resp)
            return
        first = await relay.start()
        raw = parts.route.returns_raw
        resp.content_type = raw_type(parts.route, first) if raw else NDJSON
        resp.stream = relay  # type: ignore[assignment]

    def _encoding(self, parts: RequestParts) -> Encoding:
        route = parts.route
        if route.returns_raw:
            return Encoding(lambda message: raw_body(route, message).data, records=False)
        field = route.response_field
        if field is None:
            return Encoding(self.codec.dump_line, records=True)
        return Encoding(lambda message: self.codec.dump_field(message, field) + b"\n", records=True)
