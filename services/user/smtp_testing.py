"""A real mail server for tests, on a free port, with a certificate of its own.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
import datetime as dt
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOGIN = LoginPassword(b"shop", b"p@ss/word")


@dataclass
class Mailbox:
    """What the server received, in its order, and how it responds."""

    recipients: list[list[str]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    response: str = "250 OK"
    """The response to the next mails: "451 ..." refuses them."""
    encrypted: list[bool] = field(default_factory=list)
    login_required: bool = False
    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    """The server does not respond to mails unless it is set."""

    def __post_init__(self) -> None:
        self.proceed.set()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name.
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take one mail."""
        await self.proceed.wait()
        if self.login_required and not session.authenticated:
            return "530 Log in first"
        if self.response.startswith("250"):
            content = envelope.content
            message = email.message_from_bytes(
                content if isinstance(content, bytes) else b"",
                _class=EmailMessage,
                policy=policy.default,
            )
            self.mails.append(message)
            self.recipients.append([str(each) for each in envelope.rcpt_tos])
            self.encrypted.append(_is_encrypted(server))
        return self.response


@dataclass(frozen=True)
class MailServer:
    """A running server."""

    port: int
    mailbox: Mailbox
    client_tls: ssl.SSLContext
    """Trusts the certificate of the server."""


@asynccontextmanager
async def run_mail_server(
    directory: Path, *, starttls: bool = False, implicit_tls: bool = False, login: bool = False
) -> AsyncIterator[MailServer]:
    """Run a server that demands what it is told to."""
    mailbox = Mailbox(login_required=login)
    server_tls, client_tls = _make_contexts(directory)

    def make_connection() -> SMTP:
        return SMTP(
            mailbox,
            hostname="mail.example",
            enable_SMTPUTF8=True,
            tls_context=server_tls if starttls else None,
            require_starttls=starttls,
            auth_require_tls=False,
            authenticator=_authenticate,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(
        make_connection, "127.0.0.1", 0, ssl=server_tls if implicit_tls else None
    )
    async with server:
        yield MailServer(server.sockets[0].getsockname()[1], mailbox, client_tls)


def _is_encrypted(server: SMTP) -> bool:
    transport = server.transport
    return transport is not None and transport.get_extra_info("ssl_object") is not None


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
) -> AuthResult:
    return AuthResult(success=data == LOGIN)


def _make_contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example")])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [
        x509.IPAddress(IPv4Address("127.0.0.1")),
        x509.DNSName("localhost"),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = directory / "mail.pem"
    path.write_bytes(private + pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())
