"""Where mails go: to a mail server, or into files in development."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

from chassis import settings
from services.user.mail import Text
from services.user.mail_repository import Mail

TIMEOUT_SECONDS = 10.0
"""How long each step may take: to connect, to log in, to send a mail."""

Send = Callable[[EmailMessage], Awaitable[object]]


class Transport(Protocol):
    """Sends mails."""

    def connect(self) -> AbstractAsyncContextManager[Send]:
        """Make a connection, over which several mails can be sent.

        It and its function raise OSError or aiosmtplib.SMTPException if that fails.
        """


class SmtpTransport:
    """Sends mails to the mail server of a URL, over TLS unless the server is on this machine."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_implicit = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._is_implicit else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._tls = tls or ssl.create_default_context()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Send]:
        """Connect and log in."""
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._is_implicit,
            start_tls=self._start_tls(),
            tls_context=self._tls,
            timeout=TIMEOUT_SECONDS,
        )
        async with client:
            yield client.send_message

    def _start_tls(self) -> bool | None:
        """Return whether STARTTLS is demanded; None uses it if the server offers it."""
        if self._is_implicit:
            return False
        return None if settings.is_loopback(self._host) else True


class FileTransport:
    """Writes each mail into a file of a directory: `<mail id>.eml`, in the order of creation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Send]:
        """Make the directory."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield self._write

    async def _write(self, message: EmailMessage) -> None:
        name = message["Message-ID"].strip("<>").partition("@")[0]
        unfinished = self._directory / f".{name}"
        unfinished.write_bytes(message.as_bytes(policy=policy.SMTPUTF8))
        unfinished.rename(self._directory / f"{name}.eml")


def make_message(mail: Mail, recipient: str, sender: str, text: Text) -> EmailMessage:
    """Make the message of a mail: the same id each time, by which a server can drop a second one.

    Raises:
        ValueError: an address cannot stand in a header.
    """
    message = EmailMessage(policy=policy.SMTPUTF8)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = text.subject
    message["Date"] = format_datetime(mail.create_time)
    message["Message-ID"] = f"<{mail.mail_id}@{sender.rpartition('@')[2]}>"
    # No vacation notice replies to it (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    # Not quoted-printable, which would cut the links of files in pieces.
    message.set_content(text.body, cte="7bit")
    return message
