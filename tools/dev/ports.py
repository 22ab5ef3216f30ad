"""Whether the ports that the shop wants are free, and who has them if not."""

import errno
import socket
from dataclasses import dataclass

from tools.dev.holders import describe, find_port_holders


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
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        with socket.create_server((endpoint.host, endpoint.port), family=family):
            return None
    except OSError as error:
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
