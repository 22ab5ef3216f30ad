"""Accounts in tests: the calls that need no password, and the mails that they send.

A test module gets the fixture `mails` with

    pytest_plugins = (
        "tools.postgres.testing",
        "services.user.testing",
        "chassis.testing",
        "services.user.accounts_testing",
    )

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from google.protobuf import empty_pb2
from grpc import StatusCode

from bazaar.user.v1 import user_pb2
from chassis.database import Database
from chassis.testing import refusal
from services.user.mail_transport import SmtpTransport
from services.user.mail_worker import MailWorker
from services.user.smtp_testing import MailServer, run_mail_server
from services.user.testing import PASSWORD, Users

NEW_PASSWORD = "battery staple"  # noqa: S105 - Made up.


@dataclass(frozen=True)
class Mails:
    """Sends the mails that wait, and has the server that receives them."""

    worker: MailWorker
    server: MailServer

    async def receive(self) -> list[tuple[str, str, str]]:
        """Return the recipient, the subject and the token of each mail that is new."""
        mailbox = self.server.mailbox
        seen = len(mailbox.mails)
        await self.worker.run()
        return [
            (
                message["To"],
                message["Subject"],
                (re.findall(r"#token=([\w-]+)", message.get_content()) or [""])[0],
            )
            for message in mailbox.mails[seen:]
        ]


@pytest.fixture
async def mails(database: Database, tmp_path: Path) -> AsyncIterator[Mails]:
    """Send mails to a mail server of the test."""
    async with run_mail_server(tmp_path) as server:
        transport = SmtpTransport(f"smtp://127.0.0.1:{server.port}")
        yield Mails(MailWorker(database, transport, "shop@bazaar.example", "http://shop"), server)


def execute(url: str, query: LiteralString) -> list[tuple[object, ...]]:
    """Execute a statement, and return its rows."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


async def register(
    users: Users, email: str = "ada@example.com", password: str = PASSWORD
) -> empty_pb2.Empty:
    """Register a user."""
    return await users.Register(
        user_pb2.RegisterRequest(email=email, password=password, display_name="Ada")
    )


async def verify(users: Users, token: str) -> None:
    """Verify an e-mail address."""
    await users.VerifyEmail(user_pb2.VerifyEmailRequest(token=token))


async def reset(users: Users, token: str, password: str = NEW_PASSWORD) -> None:
    """Set a new password by the token of a mail."""
    await users.ResetPassword(user_pb2.ResetPasswordRequest(token=token, new_password=password))


async def ask_for_reset(users: Users, email: str = "ada@example.com") -> empty_pb2.Empty:
    """Ask for a mail by which the password can be reset."""
    return await users.RequestPasswordReset(user_pb2.RequestPasswordResetRequest(email=email))


async def expect_invalid_token(call: Awaitable[object]) -> None:
    """Fail unless a token of a mail is refused."""
    refused = await refusal(call)
    if (refused.code, refused.reason) != (StatusCode.INVALID_ARGUMENT, "INVALID_MAIL_TOKEN"):
        pytest.fail(f"the token is not refused as one: {refused}")


async def list_users(users: Users) -> list[user_pb2.User]:
    """Return all users, oldest first."""
    return list((await users.ListUsers(user_pb2.ListUsersRequest())).users)
