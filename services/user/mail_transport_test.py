"""Mails over TLS to a real mail server, and as files."""

import datetime as dt
import ssl
import uuid
from pathlib import Path

import aiosmtplib
import pytest

from services.user import mail
from services.user.mail import Template
from services.user.mail_repository import Mail
from services.user.mail_transport import FileTransport, SmtpTransport, Transport, make_message
from services.user.smtp_testing import run_mail_server

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


async def send(transport: Transport, email: str = "ada@example.com") -> None:
    queued = Mail(uuid.UUID(int=7), Template.EMAIL_CHANGED, email, None, NOW, 1, dt.timedelta())
    message = make_message(queued, email, "shop@bazaar.example", mail.email_changed())
    async with transport.connect() as send_message:
        await send_message(message)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_mails_are_sent_over_tls_with_a_login(tmp_path: Path, scheme: str) -> None:
    is_implicit = scheme == "smtps"
    async with run_mail_server(
        tmp_path, starttls=not is_implicit, implicit_tls=is_implicit, login=True
    ) as server:
        url = f"{scheme}://shop:p%40ss%2Fword@127.0.0.1:{server.port}"
        await send(SmtpTransport(url, server.client_tls))
        assert server.mailbox.encrypted == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_server_whose_certificate_is_not_trusted_gets_no_mail(
    tmp_path: Path, scheme: str
) -> None:
    is_implicit = scheme == "smtps"
    async with run_mail_server(
        tmp_path, starttls=not is_implicit, implicit_tls=is_implicit
    ) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        with pytest.raises((OSError, aiosmtplib.SMTPException)):
            await send(SmtpTransport(url, ssl.create_default_context()))
        assert server.mailbox.mails == []


async def test_a_server_elsewhere_gets_no_mail_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.settings.is_loopback", lambda _: False)
    async with run_mail_server(tmp_path) as server:
        with pytest.raises(aiosmtplib.SMTPException):
            await send(SmtpTransport(f"smtp://127.0.0.1:{server.port}"))
        assert server.mailbox.mails == []


async def test_mails_are_files_in_development(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "mail"
    await send(FileTransport(directory), "zo\u00eb@m\u00fcnchen.de")
    (path,) = directory.iterdir()
    assert path.suffix == ".eml"
    text = path.read_text(encoding="utf-8")
    assert "To: zo\u00eb@m\u00fcnchen.de" in text
    assert "Subject: Your e-mail address was changed" in text
