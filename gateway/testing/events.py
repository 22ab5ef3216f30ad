"""A client of server-sent events that behaves as browsers do (HTML Living Standard §9.2).

PYTEST_DONT_REWRITE: nothing here asserts.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

EVENT_STREAM = "text/event-stream"

_LINE_ENDS = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """An event as a listener receives it."""

    name: str
    data: str
    last_id: str

    def json(self) -> Any:
        """Return the data, read as JSON."""
        return orjson.loads(self.data)


@dataclass
class EventParser:
    """The events of a stream so far; the parser outlives its connections (§9.2.6)."""

    events: list[Event] = field(default_factory=list)
    comments: int = 0
    last_id: str = ""
    retry_milliseconds: int | None = None

    def parse(self, body: bytes) -> None:
        """Parse the body of one connection; an incomplete event at its end is discarded."""
        text = body.decode("utf-8", errors="replace").removeprefix("\ufeff")
        *lines, _ = _LINE_ENDS.split(text)
        name, data, last_id = "", "", ""
        for line in lines:
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                self.last_id = last_id
                if data:
                    self.events.append(Event(name or "message", data.removesuffix("\n"), last_id))
                name, data = "", ""
            elif not key:
                self.comments += 1
            elif key == "event":
                name = value
            elif key == "data":
                data += value + "\n"
            elif key == "id" and "\x00" not in value:
                last_id = value
            elif key == "retry" and value.isascii() and value.isdecimal():
                self.retry_milliseconds = int(value)


class EventSource(EventParser):
    """Reads one URL, connection after connection."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        super().__init__()
        self._client = client
        self._url = url
        self.is_closed = False
        """The response forbids the client to reconnect (§9.2.3)."""

    async def connect(self, cut_after_bytes: int | None = None) -> None:
        """Read one connection to its end, or cut it after so many bytes of its body."""
        headers = {"Accept": EVENT_STREAM, "Accept-Encoding": "identity"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        body = b""
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != 200 or response.headers["Content-Type"] != EVENT_STREAM:
                self.is_closed = True
                return
            async for piece in response.aiter_bytes():
                body += piece
                if cut_after_bytes is not None and len(body) >= cut_after_bytes:
                    break
        self.parse(body[:cut_after_bytes])

    async def read_all(self) -> None:
        """Connect until the server says that the stream is complete."""
        while not self.is_closed:
            await self.connect()

    def messages(self) -> list[Any]:
        """Return the data of the events without a name."""
        return [event.json() for event in self.events if event.name == "message"]
