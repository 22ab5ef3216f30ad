"""Registration, verified addresses and forgotten passwords: by RPCs, and the mails they send."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import empty_pb2
from psycopg import sql
from rest.v1 import annotations_pb2

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import access
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import Events, refusal, serving_service
from services.user.accounts_testing import (
    NEW_PASSWORD,
    Mails,
    ask_for_reset,
    execute,
    expect_invalid_token,
    list_users,
    register,
    reset,
    verify,
)
from services.user.main import SERVICE
from services.user.settings import UserSettings
from services.user.testing import PASSWORD, Users, as_user, log_in, new_user, refresh
from tools.postgres.testing import app_url

pytest_plugins = (
    "tools.postgres.testing",
    "services.user.testing",
    "chassis.testing",
    "services.user.accounts_testing",
)
DATABASE = "user"
# Its stub has another type for it than the generated code of ours.
RATE_LIMIT: Any = annotations_pb2.rate_limit


@pytest.fixture
async def strict_users(clean_database_url: str) -> AsyncIterator[Users]:
    """Return a stub for a service that requires verified addresses."""
    config = UserSettings(bazaar_environment="development", userservice_verification_required=True)
    resources = Resources(Database(app_url(clean_database_url)), config)
    async with serving_service(SERVICE, resources) as channel:
        yield user_pb2_grpc.UserServiceStub(channel)


def read_all(url: str) -> str:
    """Return all rows of all tables, as text; bytes as text, too."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        return "\n".join(
            repr(row)
            for (table,) in tables
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        )


async def test_a_registered_user_is_a_customer_who_verifies_the_address(
    users: Users, mails: Mails
) -> None:
    await register(users)
    (user,) = await list_users(users)
    assert (user.email, user.role) == ("ada@example.com", user_pb2.ROLE_CUSTOMER)
    assert not user.email_verified
    ((recipient, subject, token),) = await mails.receive()
    assert (recipient, subject) == ("ada@example.com", "Please verify your e-mail address")
    await verify(users, token)
    (user,) = await list_users(users)
    assert user.email_verified
    await expect_invalid_token(verify(users, token))
    await log_in(users)


async def test_registering_a_known_address_responds_alike_and_tells_only_its_owner(
    users: Users, mails: Mails
) -> None:
    first = await register(users)
    await mails.receive()
    assert await register(users, "ADA@example.com", NEW_PASSWORD) == first
    ((recipient, subject, token),) = await mails.receive()
    assert (recipient, subject) == ("ada@example.com", "You have an account already")
    assert len(await list_users(users)) == 1
    await log_in(users)
    await reset(users, token)
    await log_in(users, password=NEW_PASSWORD)


@pytest.mark.parametrize("call", [register, ask_for_reset])
async def test_a_request_takes_as_long_for_an_unknown_address_as_for_a_known_one(
    users: Users, call: Callable[[Users, str], Awaitable[empty_pb2.Empty]]
) -> None:
    await register(users)
    known: list[float] = []
    unknown: list[float] = []
    for number in range(15):
        for email, taken in (("ada@example.com", known), (f"{number}@example.com", unknown)):
            start = time.perf_counter()
            await call(users, email)
            taken.append(time.perf_counter() - start)
    assert 0.5 < statistics.median(known) / statistics.median(unknown) < 2


async def test_a_request_for_a_reset_takes_the_same_steps_for_an_unknown_address(
    users: Users, statements: list[object]
) -> None:
    await register(users)
    steps = []
    for email in ("ada@example.com", "nobody@example.com"):
        statements.clear()
        await ask_for_reset(users, email)
        steps.append([each for each in statements if "alembic" not in str(each)])
    assert steps[0] == steps[1]


def test_what_strangers_ask_for_an_address_is_limited_for_each_address() -> None:
    rules = access.read_rules(SERVICE.descriptor)
    limits = {
        rpc.name: (limit.field, bool(limit.field_limit), bool(limit.field_total_limit))
        for rpc in SERVICE.descriptor.methods
        if "email" in rpc.input_type.fields_by_name
        and rules[f"/{SERVICE.descriptor.full_name}/{rpc.name}"].is_public
        and (limit := rpc.GetOptions().Extensions[RATE_LIMIT])
    }
    names = ("Register", "RequestPasswordReset", "Login")
    assert limits == dict.fromkeys(names, ("email", True, True))


async def test_register_enforces_the_rules(users: Users, clean_database_url: str) -> None:
    request = user_pb2.RegisterRequest(email="nobody", password="short", display_name="")
    assert (await refusal(users.Register(request))).fields == ["password", "display_name"]
    request = user_pb2.RegisterRequest(email="nobody", password=PASSWORD, display_name="Ada")
    assert (await refusal(users.Register(request))).fields == ["email"]
    assert execute(clean_database_url, "SELECT FROM mails") == []


async def test_a_forgotten_password_is_reset_once_by_mail(users: Users, mails: Mails) -> None:
    await users.CreateUser(new_user())
    await mails.receive()
    session = await log_in(users)
    await ask_for_reset(users, "Ada@example.com")
    ((recipient, subject, token),) = await mails.receive()
    assert (recipient, subject) == ("ada@example.com", "Set a new password")
    await reset(users, token)
    await expect_invalid_token(reset(users, token, PASSWORD))
    assert (await refusal(log_in(users))).reason == "INVALID_CREDENTIALS"
    assert (await refusal(refresh(users, session.refresh_token))).reason == "INVALID_REFRESH_TOKEN"
    await log_in(users, password=NEW_PASSWORD)
    (user,) = await list_users(users)
    assert user.email_verified


async def test_a_reset_invalidates_all_tokens_that_were_sent_before(
    users: Users, mails: Mails
) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    await ask_for_reset(users)
    _, (*_, first), (*_, second) = await mails.receive()
    await reset(users, second)
    await expect_invalid_token(reset(users, first, PASSWORD))


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "\x00"])
async def test_an_unknown_token_is_refused(users: Users, token: str) -> None:
    await expect_invalid_token(verify(users, token))
    await expect_invalid_token(reset(users, token))


async def test_a_token_is_for_one_purpose(users: Users, mails: Mails) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    (*_, verification), (*_, password_reset) = await mails.receive()
    await expect_invalid_token(reset(users, verification))
    await expect_invalid_token(verify(users, password_reset))


async def test_an_expired_token_is_refused(
    users: Users, mails: Mails, clean_database_url: str
) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    (*_, verification), (*_, password_reset) = await mails.receive()
    lifetimes = execute(
        clean_database_url,
        "SELECT purpose, ceil(extract(epoch FROM expire_time - now()) / 60)::integer"
        " FROM mail_tokens ORDER BY purpose",
    )
    assert lifetimes == [("reset_password", 30), ("verify_email", 24 * 60)]
    execute(clean_database_url, "UPDATE mail_tokens SET expire_time = now()")
    await expect_invalid_token(verify(users, verification))
    await expect_invalid_token(reset(users, password_reset))


async def test_a_reset_needs_a_password_that_keeps_the_rules(users: Users, mails: Mails) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    _, (*_, token) = await mails.receive()
    assert (await refusal(reset(users, token, "short"))).fields == ["new_password"]
    await reset(users, token)


async def test_a_deleted_user_gets_no_mail_that_still_waits(
    users: Users, mails: Mails, clean_database_url: str
) -> None:
    user = await users.CreateUser(new_user())
    await ask_for_reset(users)
    await users.DeleteUser(user_pb2.DeleteUserRequest(user_id=user.user_id))
    assert await mails.receive() == []
    assert execute(clean_database_url, "SELECT FROM mails") == []


async def test_secrets_are_neither_logged_nor_stored(
    users: Users, channel: grpc.aio.Channel, mails: Mails, clean_database_url: str, events: Events
) -> None:
    email, password, second = "canary@example.com", "canary-password", "canary-password-2"
    await register(users, email, password)
    ((*_, verification),) = await mails.receive()
    await refusal(log_in(users, email, "canary-password-wrong"))
    first = await log_in(users, email, password)
    issued = await refresh(users, first.refresh_token)
    await ask_for_reset(users, email)
    ((*_, password_reset),) = await mails.receive()
    await verify(users, verification)
    await register(users, email, password)
    user = next(each for each in await list_users(users) if each.email == email)
    change = user_pb2.ChangePasswordRequest(
        user_id=user.user_id, current_password=password, new_password=second
    )
    await as_user(channel, user.user_id).ChangePassword(change)
    await refusal(reset(users, password_reset))
    secrets = (
        *("canary-password", verification, password_reset),
        *(first.access_token, first.refresh_token, issued.access_token, issued.refresh_token),
    )
    logged = repr(events)
    stored = read_all(clean_database_url)
    assert email not in logged
    assert "canary@example.com" in stored, "the dump is of the rows"
    assert [each for each in secrets if each in logged or each in stored] == []


async def test_verification_can_be_required_before_a_login(
    strict_users: Users, mails: Mails
) -> None:
    await register(strict_users)
    await mails.receive()
    refused = await refusal(log_in(strict_users))
    assert refused.reason == "INVALID_CREDENTIALS"
    assert await refusal(log_in(strict_users, password="wrong")) == refused
    ((recipient, _, token),) = await mails.receive()
    assert recipient == "ada@example.com"
    await verify(strict_users, token)
    await log_in(strict_users)


async def test_registering_an_address_and_logging_in_does_not_tell_whether_it_was_known(
    strict_users: Users, mails: Mails
) -> None:
    await register(strict_users)
    ((*_, token),) = await mails.receive()
    await verify(strict_users, token)
    refused = []
    for email in ("ada@example.com", "unknown@example.com"):
        await register(strict_users, email, NEW_PASSWORD)
        refused.append(await refusal(log_in(strict_users, email, NEW_PASSWORD)))
    assert refused[0] == refused[1]
    assert refused[0].code == grpc.StatusCode.UNAUTHENTICATED
