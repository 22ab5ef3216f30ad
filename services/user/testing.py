"""Test fixtures of users: the service through a channel, with real passwords and keys.

A test module gets the fixtures with

    pytest_plugins = ("tools.postgres.testing", "services.user.testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import serving_service
from services.user.main import SERVICE
from services.user.settings import UserSettings

SETTINGS = UserSettings(bazaar_environment="development")
"""Settings of a service that sends no mails by itself, and has no first admin."""

PASSWORD = "correct horse"  # noqa: S105 - Made up.

Users: TypeAlias = "user_pb2_grpc.UserServiceAsyncStub"


@pytest.fixture
async def users(clean_database_url: str) -> AsyncIterator[Users]:
    """Serve users out of the module's database, and yield a stub for an admin."""
    resources = Resources(Database(clean_database_url), SETTINGS)
    async with serving_service(SERVICE, resources) as channel:
        yield user_pb2_grpc.UserServiceStub(channel)


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
) -> user_pb2.LoginResponse:
    """Begin a session."""
    return await users.Login(user_pb2.LoginRequest(email=email, password=password))


async def refresh(users: Users, refresh_token: str) -> user_pb2.RefreshTokenResponse:
    """Exchange a refresh token."""
    return await users.RefreshToken(user_pb2.RefreshTokenRequest(refresh_token=refresh_token))
