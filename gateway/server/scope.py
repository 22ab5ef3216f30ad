"""ASGI scopes, made from the heads of requests."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from uvicorn.config import Config

from gateway.http.asgi import BECOME_STREAM
from gateway.server.parser import Head
from gateway.server.sockets import Address


def make_scope(
    head: Head,
    config: Config,
    state: dict[str, Any],
    addresses: tuple[Address, Address],
    become_stream: Callable[[], None],
) -> dict[str, Any]:
    """Return the ASGI scope of a request; `addresses` are the server's and the client's.

    The application calls `become_stream` when it begins to serve a stream.
    """
    path = head.path.decode("ascii")
    server, client = addresses
    return {
        "type": "http",
        "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
        "http_version": head.http_version,
        "server": server,
        "client": client,
        "scheme": "http" if config.ssl is None else "https",
        "method": head.method,
        "root_path": config.root_path,
        "path": config.root_path + (unquote(path) if "%" in path else path),
        "raw_path": config.root_path.encode("ascii") + head.path,
        "query_string": head.query,
        "headers": head.headers,
        "state": state.copy(),
        BECOME_STREAM: become_stream,
    }
