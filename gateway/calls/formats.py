"""The forms that a stream of answers takes: NDJSON, server-sent events, a JSON array, raw bytes.

One object writes one stream. It is asked for bytes and knows neither who sends them nor when.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import orjson
from google.protobuf.message import Message

from gateway.calls.resumption import END_ID, Resumption, write_id
from gateway.http.media_types import EVENT_STREAM, JSON, NDJSON, NDJSON_ALIASES
from gateway.http.problems import Problem

RETRY_SECONDS = 3
"""How long an event stream's client waits before it tries again, where the service does not say."""

_RETRIABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})
"""Failures that the next attempt may be spared."""

_END_LINE = b"id: %b\n" % END_ID.encode()


class CutOffError(Exception):
    """The connection must be cut: what was sent cannot be completed and cannot say why."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the answers of one route are, whatever form they take."""

    dump: Callable[[Message], bytes]
    """Writes an answer: JSON on one line, or bytes as they are."""
    resumption: Resumption | None


class StreamFormat(ABC):
    """Writes one stream of answers."""

    headers: ClassVar[Sequence[tuple[str, str]]] = ()
    has_heartbeat: ClassVar[bool] = False

    def __init__(self, answers: Answers, last_id: str = "") -> None:
        """Begin; a stream that is resumed goes on after `last_id`."""
        self._dump = answers.dump
        self._resumption = answers.resumption
        self._last_id = last_id

    def begin(self) -> bytes:
        """Write what stands before all else."""
        return b""

    @abstractmethod
    def answer(self, message: Message) -> bytes:
        """Write an answer; it may be kept back until more is known."""

    def heartbeat(self) -> bytes:
        """Write what readers pass over, while no answer comes."""
        return b""

    def end(self) -> bytes:
        """Write the end of a stream that is complete."""
        return b""

    @abstractmethod
    def problem(self, problem: Problem) -> bytes:
        """Write the end of a stream that failed.

        Raises:
            CutOffError: the form has no way to say so.
        """


class JsonLines(StreamFormat):
    """One answer on each line; a failure is a last line of its own kind."""

    headers = (("X-Accel-Buffering", "no"),)

    def answer(self, message: Message) -> bytes:
        """Write a line."""
        return self._dump(message) + b"\n"

    def problem(self, problem: Problem) -> bytes:
        """Write the last line."""
        return _failure(problem) + b"\n"


class JsonArray(StreamFormat):
    """One array of all answers; a failure is a last element of its own kind."""

    def __init__(self, answers: Answers, last_id: str = "") -> None:
        super().__init__(answers, last_id)
        self._separator = b""

    def begin(self) -> bytes:
        """Open the array."""
        return b"["

    def answer(self, message: Message) -> bytes:
        """Write an element."""
        return self._element(self._dump(message))

    def end(self) -> bytes:
        """Close the array."""
        return b"]"

    def problem(self, problem: Problem) -> bytes:
        """Write the last element and close the array."""
        return self._element(_failure(problem)) + b"]"

    def _element(self, element: bytes) -> bytes:
        separator, self._separator = self._separator, b",\n"
        return separator + element


class EventStream(StreamFormat):
    """Server-sent events (HTML Living Standard §9.2), with ids where the stream can be resumed.

    The last page of a list has no token, and whether a page is the last is known when the stream
    ends. Such a page is kept back until then, at most until the next heartbeat, so that it can
    have the id of the end: a connection that broke right after it would bring it once more.
    """

    headers = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
    has_heartbeat = True

    def __init__(self, answers: Answers, last_id: str = "") -> None:
        super().__init__(answers, last_id)
        self._kept = b""

    def begin(self) -> bytes:
        """Repeat the id: read by the letter, §9.2.6 has the client forget it when it reconnects."""
        return _id_line(self._last_id) if self._resumption is not None else b""

    def answer(self, message: Message) -> bytes:
        """Write an event without a name, which `EventSource.onmessage` gets."""
        event = b"data: %b\n\n" % self._dump(message)
        if self._resumption is None:
            return event
        token = self._resumption.token_of(message)
        if not token and self._resumption.ends_without_token:
            kept, self._kept = self._kept, event
            return kept
        return b"".join((self._take_kept(), _id_line(token), event))

    def heartbeat(self) -> bytes:
        """Write a comment."""
        return self._take_kept() + b":\n"

    def end(self) -> bytes:
        """Write the event `end`, whose id makes the client's next request its last."""
        last_line = _END_LINE if self._kept else b""
        return b"%b%bevent: end\n%bdata: {}\n\n" % (last_line, self._take_kept(), _END_LINE)

    def problem(self, problem: Problem) -> bytes:
        """Write the event `problem`; EventSource has an event `error` of its own."""
        seconds = _retry_seconds(problem)
        then = _END_LINE if seconds is None else b"retry: %d\n" % (seconds * 1000)
        data = problem.as_json()
        return b"%bevent: problem\n%bdata: %b\n\n" % (self._take_kept(), then, data)

    def _take_kept(self) -> bytes:
        kept, self._kept = self._kept, b""
        return kept


class RawBytes(StreamFormat):
    """Bytes as they come; a failure cannot be told from them."""

    def answer(self, message: Message) -> bytes:
        """Write the bytes of an answer."""
        return self._dump(message)

    def problem(self, problem: Problem) -> bytes:
        """Have the connection cut, so that half of something never looks like all of it."""
        raise CutOffError from problem


FORMATS: Mapping[str, type[StreamFormat]] = {
    NDJSON: JsonLines,
    EVENT_STREAM: EventStream,
    JSON: JsonArray,
    **dict.fromkeys(NDJSON_ALIASES, JsonLines),
}
"""What a client chooses from by Accept, the preferred one first."""


def _id_line(token: str) -> bytes:
    event_id = write_id(token)
    return b"id: %b\n" % event_id if event_id else b""


def _failure(problem: Problem) -> bytes:
    return orjson.dumps({"error": problem.as_object()})


def _retry_seconds(problem: Problem) -> int | None:
    """Return when a failed stream may be asked for again, or None if that would not help."""
    asked = problem.headers.get("Retry-After", "")
    if asked.isdecimal():
        return int(asked)
    return RETRY_SECONDS if asked or problem.code in _RETRIABLE else None
