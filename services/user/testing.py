"""Test fixtures of users: the service through a channel, with real passwords and keys.

A test module gets the fixtures with

    pytest_plugins = ("tools.postgres.testing", "services.user.testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeAlias

import grpc
import pytest

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.caller import Role
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import authorized, serving
from chassis.token_testing import SESSION_ID, USER_ID, Issuer
from services.user.main import SERVICE
from services.user.settings import UserSettings
from tools.postgres.testing import app_url

SETTINGS = UserSettings(bazaar_environment="development")
"""Settings of a service that sends no mails by itself, and has no first admin."""

PASSWORD = "correct horse"  # noqa: S105 - Made up.

Users: TypeAlias = "user_pb2_grpc.UserServiceAsyncStub"


ISSUER = Issuer()
"""Issues the access tokens of `as_user`, which the service of `channel` trusts in place of its own.

Those of logins are verified where the service runs as it is: in identity_test.
"""


@pytest.fixture
async def channel(clean_database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    """Serve users out of the module's database."""
    resources = Resources(Database(app_url(clean_database_url)), SETTINGS)
    trusting = replace(SERVICE, make_verifier=lambda *_: ISSUER.verifier())
    async with serving(trusting.make_server(resources, "127.0.0.1:0")) as channel:
        yield channel


@pytest.fixture
def users(channel: grpc.aio.Channel) -> Users:
    """Return a stub for an admin who is not among the users."""
    return as_user(channel, str(USER_ID), Role.ADMIN)


def as_user(
    channel: grpc.aio.Channel,
    user_id: str,
    role: Role = Role.CUSTOMER,
    session_id: uuid.UUID = SESSION_ID,
) -> Users:
    """Return a stub for a user."""
    token = ISSUER.token(user_id, role, session_id=session_id)
    stub: Users = user_pb2_grpc.UserServiceStub(authorized(channel, token))
    return stub


def new_user(email: str = "ada@example.com") -> user_pb2.CreateUserRequest:
    """Return a request for a user with PASSWORD and an address."""
    return user_pb2.CreateUserRequest(
        email=email,
        password=PASSWORD,
        display_name="Ada",
        addresses=[user_pb2.Address(lines=["1 Way"], city="London", region_code="GB")],
    )


async def log_in(
    users: Users, email: str = "ada@example.com", password: str = PASSWORD
) -> user_pb2.SessionTokens:
    """Begin a session."""
    return await users.Login(user_pb2.LoginRequest(email=email, password=password))


async def refresh(users: Users, refresh_token: str) -> user_pb2.SessionTokens:
    """Exchange a refresh token."""
    return await users.RefreshToken(user_pb2.RefreshTokenRequest(refresh_token=refresh_token))
