"""The received bytes of a connection that are not parsed yet, and where a head ends in them."""

import re

from gateway.http.problems import Problem
from gateway.server.limits import MAX_HEAD_BYTES
from gateway.server.parser import EMPTY_LINE, check_request_line

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class ReceiveBuffer:
    """Received bytes, in order; a head is taken from it when it is complete."""

    def __init__(self) -> None:
        self.data = b""
        self._searched = 0
        """Where the empty line that ends the head may begin."""
        self._skipped = 0
        """How many bytes of empty lines came before the head."""

    @property
    def has_begun_head(self) -> bool:
        """Whether any part of a head was received; empty lines are not part of it."""
        return self.data not in (b"", b"\r")

    def add(self, data: bytes) -> None:
        """Add what was received."""
        self.data = self.data + data if self.data else data

    def take(self, size: int) -> None:
        """Remove what was parsed."""
        self.data = self.data[size:]

    def take_head(self) -> bytes | None:
        """Take a head including the empty line at its end; return None if it is incomplete.

        Raises:
            Problem: the head is too large, or no request begins like this.
        """
        self._skip_empty_lines()
        at = self.data.find(EMPTY_LINE, self._searched)
        size = len(self.data) if at == -1 else at + len(EMPTY_LINE)
        if self._skipped + size > MAX_HEAD_BYTES:
            detail = f"Request line and headers are larger than {MAX_HEAD_BYTES} bytes."
            raise Problem(431, "INVALID_ARGUMENT", detail, "HEADERS_TOO_LARGE")
        if at == -1:
            if self.has_begun_head and (b"\r\n" in self.data or not self.data[:1].isupper()):
                check_request_line(self.data)  # Anything but HTTP is refused early.
            self._searched = max(0, size - len(EMPTY_LINE) + 1)
            return None
        head = self.data[:size]
        self.take(size)
        self._searched = self._skipped = 0
        return head

    def _skip_empty_lines(self) -> None:
        """Skip empty lines before a head (RFC 9112 section 2.2); they count towards its limit."""
        if self.data.startswith(b"\r"):
            rest = _EMPTY_LINES.sub(b"", self.data, count=1)
            self._skipped += len(self.data) - len(rest)
            self.data = rest
