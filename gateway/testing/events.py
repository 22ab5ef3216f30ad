"""A client of server-sent events as browsers have it (HTML Living Standard §9.2), by hand.

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
    """What an event listener is given."""

    name: str
    data: str
    last_id: str

    def json(self) -> Any:
        """Return the data, read as JSON."""
        return orjson.loads(self.data)


@dataclass
class EventParser:
    """What has been understood of a stream so far; it outlives a connection (§9.2.6)."""

    events: list[Event] = field(default_factory=list)
    comments: int = 0
    last_id: str = ""
    retry_milliseconds: int | None = None

    def parse(self, body: bytes) -> None:
        """Take what one connection brought; what is not complete at its end is thrown away."""
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
        """It was told not to come back (§9.2.3)."""

    async def connect(self, cut_after_bytes: int | None = None) -> None:
        """Read one connection to its end, or cut it when so many bytes of its body came."""
        headers = {"Accept": EVENT_STREAM, "Accept-Encoding": "identity"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        body = b""
        async with self._client.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code != 200 or answer.headers["Content-Type"] != EVENT_STREAM:
                self.is_closed = True
                return
            async for piece in answer.aiter_bytes():
                body += piece
                if cut_after_bytes is not None and len(body) >= cut_after_bytes:
                    break
        self.parse(body[:cut_after_bytes])

    async def read_all(self) -> None:
        """Connect until there is nothing more to come."""
        while not self.is_closed:
            await self.connect()

    def messages(self) -> list[Any]:
        """Return the data of the events without a name."""
        return [event.json() for event in self.events if event.name == "message"]
