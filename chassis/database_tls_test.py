"""A database that is reached with TLS, as its URL says, and whose server has to prove its name.

The PostgreSQL of the tests is built without TLS, so a proxy before it has it instead.
"""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from chassis import errors
from chassis.database import Database
from tools.certs.authority import Authority
from tools.certs.directories import write_directory

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"

AUTHORITY = Authority.create(["db"])
OTHER = Authority.create(["db"])

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client sends first (https://www.postgresql.org/docs/current/protocol-flow.html)."""


class TlsProxy:
    """Accepts connections with TLS only, and forwards them without."""

    def __init__(self, directory: Path, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        self._port = port
        self.connections: list[asyncio.Task[None]] = []

    def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection."""
        self.connections.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with closing(writer):
            assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
            writer.write(b"S")
            try:
                await writer.start_tls(self._context)
            except ssl.SSLError:  # The client does not accept the certificate.
                return
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
            async with closing(server_writer), asyncio.TaskGroup() as group:
                group.create_task(forward(reader, server_writer))
                group.create_task(forward(server_reader, writer))


@asynccontextmanager
async def closing(writer: StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def forward(reader: StreamReader, writer: StreamWriter) -> None:
    # Either side may close its connection while the other one still sends.
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "db", AUTHORITY, AUTHORITY.issue("db"))


@pytest.fixture
async def url(database_url: str, directory: Path) -> AsyncIterator[str]:
    """Yield the URL of the database behind a proxy with TLS, without parameters."""
    parts = urlsplit(database_url)
    assert parts.port
    proxy = TlsProxy(directory, parts.port)
    async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"{parts.username}@localhost:{port}", query="").geturl()
    await asyncio.wait_for(asyncio.gather(*proxy.connections), timeout=10)


def verified(url: str, authority: Path) -> str:
    """Return the URL by which the server must have a certificate of the authority."""
    return f"{url}?sslmode=verify-full&sslrootcert={quote(str(authority), safe='')}"


async def fail(url: str) -> str:
    """Return why the database cannot be reached."""
    database = Database(url)
    await database.open()
    try:
        with pytest.raises(errors.Unavailable) as caught:
            await database.check()
    finally:
        await database.close()
    return str(caught.value.__cause__)


async def test_a_database_is_used_with_tls(url: str, directory: Path) -> None:
    database = Database(verified(url, directory / "ca.crt"))
    await database.open()
    await database.check()
    async with database.connection() as connection:
        assert connection.pgconn.ssl_in_use
        await connection.execute("SELECT FROM users")
    await database.close()


async def test_a_server_of_another_authority_is_not_used(url: str, tmp_path: Path) -> None:
    (tmp_path / "other.crt").write_bytes(OTHER.pair.certificate)
    assert "certificate verify failed" in await fail(verified(url, tmp_path / "other.crt"))


async def test_a_server_of_another_name_is_not_used(url: str, directory: Path) -> None:
    elsewhere = verified(url, directory / "ca.crt") + "&host=elsewhere&hostaddr=127.0.0.1"
    assert 'does not match host name "elsewhere"' in await fail(elsewhere)


async def test_a_server_without_tls_is_not_used(database_url: str, directory: Path) -> None:
    reason = await fail(verified(database_url.partition("?")[0], directory / "ca.crt"))
    assert "server does not support SSL" in reason
