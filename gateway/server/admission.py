"""Load shedding: requests beyond those that a process can work on are refused at once.

A request that waits for nothing but its turn makes those before it late, and one that is refused
must cost next to nothing: at five times the load that saturates a process, it refuses four of five.
So most are refused before anything of them is parsed, and their connections stay open.
"""

import re
import time
from collections import Counter
from dataclasses import dataclass

from chassis import log
from gateway.http.client_address import TrustedProxies, network_of
from gateway.http.problems import unavailable
from gateway.server.response import format_problem

YOUNG_SECONDS = 1.0
"""A request that takes longer waits for something else than this process, and does not count."""

LOG_SECONDS = 1.0
"""How often refusals are logged, at most."""

_FRAMED = re.compile(
    rb"\r\n(?:connection:(?! ?keep-alive\r)|content-length:|expect:|transfer-encoding:)",
    re.IGNORECASE,
)
"""Headers by which a request is more than its head, or the last one of its connection."""

_PROBLEM = unavailable(
    "The server has too many requests to work on.", "OVERLOADED", retry_seconds=1
)
REFUSAL = format_problem(_PROBLEM, closes=False)
LAST_REFUSAL = format_problem(_PROBLEM)
"""The same, and the connection is closed."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits on what one process works on; those of a client do not apply to trusted proxies."""

    max_requests: int = 128
    """How many requests there may be that began within the last second and are no streams."""
    max_client_requests: int = 100
    """How many of them may be of one client address."""
    max_client_connections: int = 1_000
    """How many connections one client address may have."""


class Admission:
    """Counts the requests and the connections of one process."""

    def __init__(
        self,
        limits: AdmissionLimits,
        exempt_paths: frozenset[bytes] = frozenset(),
        proxies: TrustedProxies | None = None,
    ) -> None:
        """Take the paths whose requests do not count and are never refused."""
        self._limits = limits
        self._exempt = exempt_paths
        self._exempt_lines = tuple(
            b"%b %b" % (method, path) for method in (b"GET", b"HEAD") for path in exempt_paths
        )
        self._proxies = proxies or TrustedProxies()
        self._requests: dict[object, tuple[float, str]] = {}
        """When each request began, and whose it is; the oldest first."""
        self._requests_of: Counter[str] = Counter()
        self._connections_of: Counter[str] = Counter()
        self._refused = 0
        self._logged_at = 0.0

    def client_of(self, peer: str) -> str:
        """Return what the limits of a client apply to; empty for a trusted proxy."""
        return "" if self._proxies.trusts(peer) else network_of(peer)

    def open(self, client: str) -> bool:
        """Count a connection of a client; return False if it has too many."""
        if client:
            if self._connections_of[client] >= self._limits.max_client_connections:
                return False
            self._connections_of[client] += 1
        return True

    def close(self, client: str) -> None:
        """Count a connection no longer."""
        if client:
            _decrease(self._connections_of, client)

    def refuses(self, client: str) -> bool:
        """Return whether another request of a client is to be refused."""
        if self._has_room(client):
            return False
        self._forget_old_requests()
        return not self._has_room(client)

    def refuses_unread(self, client: str, data: bytes) -> bool:
        """Return whether received bytes are a request that can be refused without parsing it."""
        return (
            self.refuses(client) and _is_bare_head(data) and not data.startswith(self._exempt_lines)
        )

    def is_exempt(self, path: bytes) -> bool:
        """Return whether requests to a path do not count and are never refused."""
        return path in self._exempt

    def begin(self, request: object, client: str) -> None:
        """Count a request as in progress."""
        self._requests[request] = (time.monotonic(), client)
        if client:
            self._requests_of[client] += 1

    def end(self, request: object) -> None:
        """Count a request no longer: it is done, or a stream, or was old already."""
        begun = self._requests.pop(request, None)
        if begun is not None and begun[1]:
            _decrease(self._requests_of, begun[1])

    def note_refusal(self) -> None:
        """Count a request that is refused; they are logged together."""
        self._refused += 1
        now = time.monotonic()
        if now > self._logged_at + LOG_SECONDS:
            log.logger().warning("requests_refused", count=self._refused, reason=_PROBLEM.reason)
            self._refused = 0
            self._logged_at = now

    def _has_room(self, client: str) -> bool:
        limits = self._limits
        return (
            len(self._requests) < limits.max_requests
            and self._requests_of.get(client, 0) < limits.max_client_requests
        )

    def _forget_old_requests(self) -> None:
        """Count requests that have taken long no longer."""
        limit = time.monotonic() - YOUNG_SECONDS
        old = []
        for request, (begin, _) in self._requests.items():
            if begin > limit:
                break
            old.append(request)
        for request in old:
            self.end(request)


def _decrease(counts: Counter[str], key: str) -> None:
    """Take one from a count, and drop it at zero."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _is_bare_head(data: bytes) -> bool:
    """Return whether bytes are nothing but the head of one request, after which comes another."""
    return (
        data.startswith((b"GET ", b"HEAD ", b"DELETE "))
        and data.find(b"\r\n\r\n") == len(data) - 4
        and b" HTTP/1.1\r\n" in data
        and _FRAMED.search(data) is None
    )
