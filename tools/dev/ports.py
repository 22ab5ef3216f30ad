"""Whether the ports that the shop wants are free, and who has them if not."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chassis import settings
from tools.dev.holders import describe, find_port_holders, find_socket_holders, has_listener

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
        return settings.address(self.host, self.port)


async def find_conflicts(endpoints: Sequence[Endpoint], report: Callable[[str], None]) -> list[str]:
    """Return a line for each endpoint that nothing could listen on, with what to do about it.

    While a port is still that of a client's connection, waits for it up to LINGER_SECONDS, and says
    so to `report`.
    """
    return [
        *_find_duplicates(endpoints),
        *filter(None, await asyncio.gather(*(_try_to_listen(each, report) for each in endpoints))),
    ]


def _find_duplicates(endpoints: Sequence[Endpoint]) -> list[str]:
    conflicts = []
    taken: dict[int, Endpoint] = {}
    for endpoint in endpoints:
        other = taken.setdefault(endpoint.port, endpoint)
        if other is not endpoint:
            conflicts.append(
                f"{other.variable}_PORT and {endpoint.variable}_PORT are both {endpoint.port}:"
                " change one"
            )
    return conflicts


async def _try_to_listen(endpoint: Endpoint, report: Callable[[str], None]) -> str:
    """Return why nothing can listen on the endpoint; empty if something can."""
    error = _listen(endpoint)
    if error is not None and error.errno == errno.EADDRINUSE and not has_listener(endpoint.port):
        error = await _wait_for_connections(endpoint, error, report)
    if error is None:
        return ""
    if error.errno != errno.EADDRINUSE:
        return (
            f"{endpoint.name} cannot listen on {endpoint.address}: {error.strerror};"
            f" see {endpoint.variable}_HOST and {endpoint.variable}_PORT"
        )
    return (
        f"port {endpoint.port}, which {endpoint.name} needs, {_explain_use(endpoint.port)},"
        f" or set {endpoint.variable}_PORT"
    )


def _explain_use(port: int) -> str:
    """Return who uses a port, how, and what to do about it."""
    if has_listener(port):
        holders = " and ".join(map(describe, find_port_holders(port)))
        return f"is in use by {holders or 'a process of another user'}: end that"
    holders = " and ".join(map(describe, find_socket_holders(port)))
    return (
        f"is the local port of a connection of {holders or 'no process that can be seen'}:"
        " start again when it has ended"
    )


def _listen(endpoint: Endpoint) -> OSError | None:
    """Listen for a moment, and return why that cannot be done."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        with socket.create_server((endpoint.host, endpoint.port), family=family):
            return None
    except OSError as error:
        return error


async def _wait_for_connections(
    endpoint: Endpoint, error: OSError, report: Callable[[str], None]
) -> OSError | None:
    """Wait while no listener has the port but a client's end of some connection.

    Linux gives clients ports from 32768 on, and keeps each for a minute after its connection ended.
    """
    report(
        f"Port {endpoint.port} is still that of a client's connection: waiting for its end,"
        f" at most {LINGER_SECONDS:g} s"
    )
    found: OSError | None = error
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while found is not None and not has_listener(endpoint.port):
                await asyncio.sleep(POLL_SECONDS)
                found = _listen(endpoint)
    return found
