"""Whether the ports that the shop wants are free, and who has them if not."""

import errno
import socket
import sys
import time
from dataclasses import dataclass

from tools.dev.holders import describe, find_port_holders, has_listener

LINGER_SECONDS = 65.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Endpoint:
    """Where something will listen; `variable` is the beginning of its names in the settings."""

    name: str
    variable: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port, as gRPC and people write them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def find_trouble(endpoints: list[Endpoint]) -> list[str]:
    """Return a line for each endpoint that nothing could listen on, with what to do about it."""
    troubles = []
    taken: dict[int, Endpoint] = {}
    for endpoint in endpoints:
        other = taken.setdefault(endpoint.port, endpoint)
        if other is not endpoint:
            troubles.append(
                f"{other.variable}_PORT and {endpoint.variable}_PORT are both {endpoint.port}:"
                " change one"
            )
        elif trouble := _try_to_listen(endpoint):
            troubles.append(trouble)
    return troubles


def _try_to_listen(endpoint: Endpoint) -> str | None:
    error = _listen(endpoint)
    if error is not None and error.errno == errno.EADDRINUSE:
        error = _wait_for_connections(endpoint, error)
    if error is None:
        return None
    if error.errno != errno.EADDRINUSE:
        return (
            f"{endpoint.name} cannot listen on {endpoint.address}: {error.strerror};"
            f" see {endpoint.variable}_HOST and {endpoint.variable}_PORT"
        )
    holders = " and ".join(describe(holder) for holder in find_port_holders(endpoint.port))
    return (
        f"port {endpoint.port}, which {endpoint.name} needs, is in use by"
        f" {holders or 'another user'}: end that, or set {endpoint.variable}_PORT"
    )


def _listen(endpoint: Endpoint) -> OSError | None:
    """Listen for a moment, and return why that cannot be done."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        with socket.create_server((endpoint.host, endpoint.port), family=family):
            return None
    except OSError as error:
        return error


def _wait_for_connections(endpoint: Endpoint, error: OSError) -> OSError | None:
    """Wait while no listener has the port but a client's end of some connection.

    Linux gives clients ports from 32768 on, and keeps each for a minute after its connection ended.
    """
    deadline = time.monotonic() + LINGER_SECONDS
    found: OSError | None = error
    if not has_listener(endpoint.port):
        told = f"Port {endpoint.port} is still that of a client's connection: waiting for its end."
        print(told, file=sys.stderr, flush=True)
    while found is not None and time.monotonic() < deadline and not has_listener(endpoint.port):
        time.sleep(POLL_SECONDS)
        found = _listen(endpoint)
    return found
