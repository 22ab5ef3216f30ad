"""Runs a fake provider on loopback: as a program, or in a thread of a test."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from tools.fakes.network import AbortableProtocol, Application

STOP_SECONDS = 10.0
_POLL_SECONDS = 0.005


class _Server(uvicorn.Server):
    """A server that stops soon, and leaves no connection open: every test has one of its own."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # noqa: ASYNC110 - what it looks at is a flag.
            await asyncio.sleep(_POLL_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and abort a connection that was accepted while uvicorn closed the others."""
        await super().shutdown(sockets)
        for connection in self.server_state.connections:
            connection.transport.abort()
        await asyncio.sleep(0)


def _make_server(app: Application) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            http=AbortableProtocol,
            loop="asyncio",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )


def listen(port: int = 0) -> socket.socket:
    """Listen on a port of loopback, by default a free one: connections wait for the server."""
    # asyncio sends small responses at once (TCP_NODELAY) only if the socket names its protocol.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


def find_url(listener: socket.socket) -> str:
    """Return the URL of a fake by its listening socket."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def serve(app: Application, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    _make_server(app).run(sockets=[listener])


@contextmanager
def serve_in_thread(app: Application) -> Iterator[str]:
    """Serve in a thread, on a free port; yield the URL."""
    server = _make_server(app)
    with listen() as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield find_url(listener)
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS)
            if thread.is_alive():
                raise RuntimeError("the fake did not stop")
