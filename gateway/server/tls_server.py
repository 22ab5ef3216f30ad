"""A server whose connections begin with a TLS handshake, and that bounds those in progress.

A protocol of asyncio learns of a connection when its handshake is done, so that `Connection` counts
none of the clients that do not finish theirs.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence

from chassis import log
from gateway.server.admission import LOG_SECONDS, Admission
from gateway.server.limits import BRIEF_HANDSHAKE_SECONDS, ConnectionLimits
from gateway.server.sockets import address_of

MAX_ACCEPTS = 100
"""How many connections are accepted before others run."""

RETRY_SECONDS = 1.0
"""How long nothing is accepted after it has failed: the process has too many open files."""

_LOG = log.logger()


class TlsServer:
    """Listens at sockets like an `asyncio.Server` with a certificate."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        limits: ConnectionLimits,
        admission: Admission,
    ) -> None:
        self._sockets = sockets
        self._make_protocol = make_protocol
        self._context = context
        self._limits = limits
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._handshakes_of: Counter[str] = Counter()
        self._refused = 0
        self._logged_at = 0.0
        self._closed = False

    def start(self) -> None:
        """Begin to accept connections."""
        for listening in self._sockets:
            self._listen(listening)

    def close(self) -> None:
        """Accept nothing more; handshakes in progress go on."""
        self._closed = True
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    async def wait_closed(self) -> None:
        """Abort the handshakes that are still in progress."""
        for handshake in self._handshakes:
            handshake.cancel()
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    def _listen(self, listening: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            for _ in range(MAX_ACCEPTS):
                self._begin(*listening.accept())
        except (BlockingIOError, ConnectionAbortedError):
            return  # Nobody waits, or somebody has gone.
        except OSError as error:
            _LOG.error("connections_not_accepted", cause=error.strerror)
            self._loop.remove_reader(listening)
            self._loop.call_later(RETRY_SECONDS, self._listen, listening)

    def _begin(self, connection: socket.socket, address: object) -> None:
        """Begin a handshake, or abort the connection beyond a limit."""
        peer, _ = address_of(address) or ("", 0)
        client = self._admission.client_of(peer)
        if not self._has_room(client):
            connection.close()
            self._note_refusal()
            return
        self._handshakes_of[client] += 1
        handshake = self._loop.create_task(self._shake_hands(connection, client))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    def _has_room(self, client: str) -> bool:
        limits = self._limits
        return len(self._handshakes) < limits.max_handshakes and (
            not client or self._handshakes_of[client] < limits.max_client_handshakes
        )

    def _note_refusal(self) -> None:
        """Count a connection that is aborted; they are logged together."""
        self._refused += 1
        if self._loop.time() > self._logged_at + LOG_SECONDS:
            _LOG.warning("handshakes_refused", count=self._refused)
            self._refused = 0
            self._logged_at = self._loop.time()

    async def _shake_hands(self, connection: socket.socket, client: str) -> None:
        """Wait until the protocol has the connection, or the client has failed to greet."""
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds(),
            )
        except OSError:
            connection.close()  # Not logged: clients could fill the log with it.
        except Exception:
            connection.close()
            _LOG.exception("handshake_failed")
        finally:
            self._handshakes_of[client] -= 1
            if not self._handshakes_of[client]:
                del self._handshakes_of[client]

    def _handshake_seconds(self) -> float:
        """Return how long a handshake may take: less time when many are in progress."""
        if len(self._handshakes) > self._limits.max_handshakes / 2:
            return min(BRIEF_HANDSHAKE_SECONDS, self._limits.handshake_seconds)
        return self._limits.handshake_seconds
