"""The gunicorn worker: uvicorn's, which also drains the application as soon as it must stop."""

import asyncio
import os
import resource
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from chassis import garbage
from gateway.app import GatewayApp
from gateway.server.connection import Connection
from gateway.server.tls_server import TlsServer

SHUTDOWN_SECONDS = 22.0
"""How long open requests may take after SIGTERM; gunicorn kills the worker after 25 seconds."""


class GatewayWorker(UvicornWorker):  # type: ignore[misc]
    """Serves the application on uvloop, with the connections of `gateway.server`.

    X-Forwarded-For is ignored, because the peer may be a client and not a proxy. The application
    writes the access log.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
    }

    async def _serve(self) -> None:
        _allow_many_files()
        garbage.make_collections_rare()
        self.config.app = self.wsgi
        self.config.http = partial(
            Connection,
            limits=self.wsgi.connection_limits,
            admission=self.wsgi.admission,
        )
        if self.wsgi.certificate is not None:
            context = self.wsgi.certificate.context
            self.config.ssl_context_factory = lambda _config, _default: context
        server = _DrainingServer(self.config, self.wsgi, self.ppid)
        # Gunicorn's master sends SIGQUIT to its workers when it receives SIGINT or SIGQUIT.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.stop)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class _DrainingServer(Server):
    def __init__(self, config: Config, app: GatewayApp, master: int) -> None:
        super().__init__(config)
        self._app = app
        self._master = master
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and listen; with a certificate by a server that limits more."""
        certificate = self._app.certificate
        if certificate is None:
            await super().startup(sockets)
            return
        await super().startup([])
        server = TlsServer(
            sockets or [],
            self._make_connection,
            certificate.context,
            self._app.connection_limits,
            self._app.admission,
        )
        server.start()
        self.servers.append(server)  # type: ignore[arg-type]

    def _make_connection(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._loop,
        )
        return protocol

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop, which is also when the master has died."""
        orphaned = os.getppid() != self._master
        return await super().on_tick(counter) or orphaned

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain the application, then stop as uvicorn does."""
        self._loop.call_soon_threadsafe(self._app.drain)
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Stop as after SIGTERM."""
        self._app.drain()
        self.should_exit = True


def _allow_many_files() -> None:
    """Raise the limit on open files to the hard limit: each connection takes one."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
