"""The body of an HTTP answer that is a stream: answers are read, written in a form, and handed on.

Flow control is here: an answer is read when the client has taken the one before, and until then
nothing of it is held but what is on its way out.
"""

from collections.abc import AsyncIterator

from google.protobuf.message import Message

from chassis import log
from gateway.calls.formats import StreamFormat
from gateway.calls.relay import Mark, Relay
from gateway.http.exchange import Exchange
from gateway.http.problems import Problem, internal


class StreamBody:
    """What Falcon sends piece by piece, and closes whatever happens.

    `start` waits for the first answer, so that a call that fails at once is an ordinary problem.
    """

    def __init__(self, relay: Relay, form: StreamFormat, exchange: Exchange) -> None:
        self._relay = relay
        self._form = form
        self._exchange = exchange
        self._read = relay.read_or_pause if form.has_heartbeat else relay.read
        self._piece = b""
        self._over = False

    async def start(self) -> Message | Mark:
        """Make the call and return what comes first.

        Raises:
            Problem: the call failed before anything was written.
        """
        try:
            self._relay.begin()
            first = await self._read()
            self._piece = self._form.begin() + self._write(first)
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
        """End the call if it is not over."""
        await self._relay.close()

    def _take_piece(self) -> bytes:
        """Give the piece away: only who sends it is to hold it."""
        piece, self._piece = self._piece, b""
        return piece

    async def _next_piece(self) -> bytes:
        try:
            return self._write(await self._read())
        except Problem as problem:
            self._over = True
            self._exchange.code = problem.code
            return self._form.problem(problem)

    def _write(self, answer: Message | Mark) -> bytes:
        if isinstance(answer, Message):
            return self._dump(answer)
        if answer is Mark.PAUSE:
            return self._form.heartbeat()
        self._over = True
        return self._form.end()

    def _dump(self, message: Message) -> bytes:
        try:
            return self._form.answer(message)
        except (TypeError, ValueError) as error:
            log.logger().exception("answer_not_json", rpc=self._exchange.rpc)
            raise internal() from error
