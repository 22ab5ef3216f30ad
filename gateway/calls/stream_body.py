"""The body of a streaming response: responses are read, written in a format, and passed on.

Flow control is here: a response is read when the client has taken the one before, and until then
only the piece that is being sent is held.
"""

from collections.abc import AsyncIterator

from google.protobuf.message import Message

from chassis import log
from gateway.calls.formats import StreamFormat
from gateway.calls.relay import Mark, Relay
from gateway.http.exchange import Exchange
from gateway.http.problems import Problem, internal


class StreamBody:
    """An iterator over the pieces of the body; Falcon closes it in any case.

    `start` waits for the first response, so that a call that fails at once is an ordinary problem.
    """

    def __init__(self, relay: Relay, stream_format: StreamFormat, exchange: Exchange) -> None:
        self._relay = relay
        self._format = stream_format
        self._exchange = exchange
        self._read = relay.read_or_pause if stream_format.has_heartbeat else relay.read
        self._piece = b""
        self._over = False

    async def start(self) -> Message | Mark:
        """Make the call and return what is read first.

        Raises:
            Problem: the call failed before anything was written.
        """
        try:
            self._relay.begin()
            first = await self._read()
            self._piece = self._format.begin() + self._write(first)
        except BaseException:
            await self.close()
            raise
        return first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each when the client has taken the one before."""
        while True:
            self._relay.begin_sending()
            yield self._take_piece()
            # An ASGI server waits before it sends: it comes back when most of the piece has left.
            yield b""
            self._relay.end_sending()
            if self._over:
                return
            self._piece = await self._next_piece()

    async def close(self) -> None:
        """Cancel the call if it is not over."""
        await self._relay.close()

    def _take_piece(self) -> bytes:
        """Return the piece without keeping it: only its sender is to hold it."""
        piece, self._piece = self._piece, b""
        return piece

    async def _next_piece(self) -> bytes:
        try:
            return self._write(await self._read())
        except Problem as problem:
            self._over = True
            self._exchange.code = problem.code
            return self._format.problem(problem)

    def _write(self, read: Message | Mark) -> bytes:
        if isinstance(read, Message):
            return self._write_message(read)
        if read is Mark.PAUSE:
            return self._format.heartbeat()
        self._over = True
        return self._format.end()

    def _write_message(self, message: Message) -> bytes:
        try:
            return self._format.write(message)
        except (TypeError, ValueError) as error:
            log.logger().exception("response_not_json", rpc=self._exchange.rpc)
            raise internal() from error
