"""The formats of a stream of responses: NDJSON, a JSON array, raw bytes; `event_stream` has events.

One object writes one stream. It returns bytes and does no I/O.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import orjson
from google.protobuf.message import Message

from gateway.http.problems import Problem

Write = Callable[[Message], bytes]
"""Writes one response as a line of JSON, or as the bytes that it holds."""


class AbortResponseError(Exception):
    """The connection must be closed: the response can neither be completed nor report a failure."""


class StreamFormat(ABC):
    """Writes one stream of responses."""

    headers: ClassVar[Sequence[tuple[str, str]]] = ()
    has_heartbeat: ClassVar[bool] = False

    def __init__(self, write: Write) -> None:
        self._write_one = write

    def begin(self) -> bytes:
        """Write what precedes the first response."""
        return b""

    @abstractmethod
    def write(self, message: Message) -> bytes:
        """Write a response; it may be held until more is known."""

    def heartbeat(self) -> bytes:
        """Write something that readers ignore, while no response arrives."""
        return b""

    def end(self) -> bytes:
        """Write the end of a complete stream."""
        return b""

    @abstractmethod
    def problem(self, problem: Problem) -> bytes:
        """Write the end of a stream that failed.

        Raises:
            AbortResponseError: the format cannot represent a failure.
        """


class JsonLines(StreamFormat):
    """One response per line; a failure is a last line with the member `error`."""

    headers = (("X-Accel-Buffering", "no"),)

    def write(self, message: Message) -> bytes:
        """Write a line."""
        return self._write_one(message) + b"\n"

    def problem(self, problem: Problem) -> bytes:
        """Write the last line."""
        return _failure(problem) + b"\n"


class JsonArray(StreamFormat):
    """One array of all responses; a failure is a last element with the member `error`."""

    def __init__(self, write: Write) -> None:
        super().__init__(write)
        self._separator = b""

    def begin(self) -> bytes:
        """Open the array."""
        return b"["

    def write(self, message: Message) -> bytes:
        """Write an element."""
        return self._element(self._write_one(message))

    def end(self) -> bytes:
        """Close the array."""
        return b"]"

    def problem(self, problem: Problem) -> bytes:
        """Write the last element and close the array."""
        return self._element(_failure(problem)) + b"]"

    def _element(self, element: bytes) -> bytes:
        separator, self._separator = self._separator, b",\n"
        return separator + element


class RawBytes(StreamFormat):
    """The bytes of the responses, among which a failure could not be recognised."""

    def write(self, message: Message) -> bytes:
        """Write the bytes of a response."""
        return self._write_one(message)

    def problem(self, problem: Problem) -> bytes:
        """Have the connection closed, so that the client does not take a part for the whole."""
        raise AbortResponseError from problem


def _failure(problem: Problem) -> bytes:
    return orjson.dumps({"error": problem.as_object()})
