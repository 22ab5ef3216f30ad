"""The types of ASGI (asgi.readthedocs.io), by the names that its specification uses."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Application = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

BECOME_STREAM = "gateway.server.become_stream"
"""The key in the scope of a function that counts the request as work in progress no longer."""
