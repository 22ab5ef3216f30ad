"""The service as it runs: two processes that verify the tokens of each other's logins."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import jwt
import pytest
from pydantic import SecretStr

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import authorized, refusal, serving
from services.user.main import SERVICE
from services.user.settings import UserSettings
from services.user.testing import PASSWORD, Users, log_in, new_user, refresh
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "user"
ADMIN = "admin@example.com"
Channel = grpc.aio.Channel


@asynccontextmanager
async def replicas(
    url: str, *, lifetime_seconds: float = 3_600, notice_seconds: float = 60
) -> AsyncIterator[tuple[Channel, Channel]]:
    """Run two processes' worth of the service, with their tasks."""
    config = UserSettings(
        bazaar_environment="development",
        userservice_admin_email=ADMIN,
        userservice_admin_password=SecretStr(PASSWORD),
        userservice_key_lifetime_seconds=lifetime_seconds,
        userservice_key_notice_seconds=notice_seconds,
    )
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(_run(Resources(Database(app_url(url)), config)))
            for _ in range(2)
        ]
        yield first, second


@asynccontextmanager
async def _run(resources: Resources) -> AsyncIterator[Channel]:
    async with resources.stack, AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            serving(SERVICE.make_server(resources, "127.0.0.1:0"))
        )
        for task in resources.tasks:
            task.start()
            stack.push_async_callback(task.stop)
        yield channel


@pytest.fixture
async def channels(clean_database_url: str) -> AsyncIterator[tuple[Channel, Channel]]:
    async with replicas(clean_database_url) as opened:
        yield opened


def anybody(channel: Channel) -> Users:
    return user_pb2_grpc.UserServiceStub(channel)


def bearer(channel: Channel, access_token: str) -> Users:
    stub: Users = user_pb2_grpc.UserServiceStub(authorized(channel, access_token))
    return stub


async def wait_until_refused(users: Users) -> str:
    """Return the reason for which calls are refused from now on.

    Raises:
        TimeoutError: they are not, within 10 s.
    """
    async with asyncio.timeout(10):
        while True:
            try:
                await users.ListUsers(user_pb2.ListUsersRequest())
            except grpc.aio.AioRpcError:
                refused = await refusal(users.ListUsers(user_pb2.ListUsersRequest()))
                assert refused.code == grpc.StatusCode.UNAUTHENTICATED
                return refused.reason


async def test_the_first_admin_logs_in_at_once_and_appoints_staff(
    channels: tuple[Channel, Channel],
) -> None:
    first, second = channels
    admin = bearer(second, (await log_in(anybody(first), ADMIN)).access_token)
    colleague = await admin.CreateUser(new_user())
    request = user_pb2.SetRoleRequest(user_id=colleague.user_id, role=user_pb2.ROLE_STAFF)
    await admin.SetRole(request)
    staff = bearer(first, (await log_in(anybody(second))).access_token)
    assert len((await staff.ListUsers(user_pb2.ListUsersRequest())).users) == 2
    refused = await refusal(staff.SetRole(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING")


async def test_a_refresh_token_is_no_access_token(channels: tuple[Channel, Channel]) -> None:
    issued = await log_in(anybody(channels[0]), ADMIN)
    users = bearer(channels[0], issued.refresh_token)
    refused = await refusal(users.ListUsers(user_pb2.ListUsersRequest()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize("way", ["logout", "logout of all sessions", "reuse"])
async def test_access_tokens_end_with_their_session_in_all_processes(
    channels: tuple[Channel, Channel], way: str
) -> None:
    first, second = channels
    issued = await log_in(anybody(first), ADMIN)
    admins = [bearer(channel, issued.access_token) for channel in channels]
    for admin in admins:
        await admin.ListUsers(user_pb2.ListUsersRequest())
    if way == "reuse":
        await refresh(anybody(second), issued.refresh_token)
        await refusal(refresh(anybody(second), issued.refresh_token))
    else:
        request = user_pb2.LogoutRequest(
            refresh_token=issued.refresh_token, all_sessions="all" in way
        )
        await anybody(second).Logout(request)
    assert [await wait_until_refused(admin) for admin in admins] == ["TOKEN_REVOKED"] * 2


async def test_a_process_that_starts_later_refuses_what_was_revoked_before(
    channels: tuple[Channel, Channel], clean_database_url: str
) -> None:
    issued = await log_in(anybody(channels[0]), ADMIN)
    await anybody(channels[0]).Logout(user_pb2.LogoutRequest(refresh_token=issued.refresh_token))
    async with replicas(clean_database_url) as (late, _):
        assert await wait_until_refused(bearer(late, issued.access_token)) == "TOKEN_REVOKED"


async def test_mails_are_sent_by_the_running_service(
    clean_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    async with replicas(clean_database_url) as (channel, _):
        users = anybody(channel)
        await users.Register(
            user_pb2.RegisterRequest(email="ada@example.com", password=PASSWORD, display_name="Ada")
        )
        token = await find_token(tmp_path / ".data" / "mail")
        await users.VerifyEmail(user_pb2.VerifyEmailRequest(token=token))


async def find_token(directory: Path) -> str:
    """Return the token of the first mail that is written into a directory.

    Raises:
        TimeoutError: none is, within 10 s.
    """
    async with asyncio.timeout(10):
        while not (token := await asyncio.to_thread(read_token, directory)):
            pass
    return token


def read_token(directory: Path) -> str:
    texts = [path.read_text(encoding="utf-8") for path in directory.glob("*.eml")]
    return texts[0].partition("#token=")[2].split()[0] if texts else ""


async def test_no_call_is_refused_while_keys_rotate(clean_database_url: str) -> None:
    key_ids = set()
    calls = 0
    async with replicas(clean_database_url, lifetime_seconds=2, notice_seconds=1.5) as (
        first,
        second,
    ):
        token = (await log_in(anybody(first), ADMIN)).refresh_token
        end = time.monotonic() + 8
        while time.monotonic() < end:
            issued = await refresh(anybody(first), token)
            token = issued.refresh_token
            key_ids.add(jwt.get_unverified_header(issued.access_token)["kid"])
            for channel in (first, second):
                await bearer(channel, issued.access_token).ListUsers(user_pb2.ListUsersRequest())
                calls += 1
    assert len(key_ids) >= 3
    assert calls >= 20
