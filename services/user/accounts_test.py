"""Registration, verified addresses and new passwords: by RPCs, and by the mails they send."""

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

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
from chassis.testing import Events, held_back, refusal, serving_service
from services.user.mail_transport import SmtpTransport
from services.user.mail_worker import MailWorker
from services.user.main import SERVICE
from services.user.settings import UserSettings
from services.user.smtp_testing import MailServer, run_mail_server
from services.user.testing import PASSWORD, Users, as_user, log_in, new_user, refresh
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing", "services.user.testing", "chassis.testing")
DATABASE = "user"
NEW_PASSWORD = "battery staple"
# Its stub has another type for it than the generated code of ours.
RATE_LIMIT: Any = annotations_pb2.rate_limit


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
    async with run_mail_server(tmp_path) as server:
        transport = SmtpTransport(f"smtp://127.0.0.1:{server.port}")
        yield Mails(MailWorker(database, transport, "shop@bazaar.example", "http://shop"), server)


def execute(url: str, query: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


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


async def register(
    users: Users, email: str = "ada@example.com", password: str = PASSWORD
) -> empty_pb2.Empty:
    return await users.Register(
        user_pb2.RegisterRequest(email=email, password=password, display_name="Ada")
    )


async def verify(users: Users, token: str) -> None:
    await users.VerifyEmail(user_pb2.VerifyEmailRequest(token=token))


async def reset(users: Users, token: str, password: str = NEW_PASSWORD) -> None:
    await users.ResetPassword(user_pb2.ResetPasswordRequest(token=token, new_password=password))


async def ask_for_reset(users: Users, email: str = "ada@example.com") -> empty_pb2.Empty:
    return await users.RequestPasswordReset(user_pb2.RequestPasswordResetRequest(email=email))


async def refuse(call: Awaitable[object]) -> None:
    """Check that a token of a mail is refused."""
    refused = await refusal(call)
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "INVALID_MAIL_TOKEN"


async def list_users(users: Users) -> list[user_pb2.User]:
    return list((await users.ListUsers(user_pb2.ListUsersRequest())).users)


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
    await refuse(verify(users, token))
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
    await refuse(reset(users, token, PASSWORD))
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
    await refuse(reset(users, first, PASSWORD))


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "\x00"])
async def test_an_unknown_token_is_refused(users: Users, token: str) -> None:
    await refuse(verify(users, token))
    await refuse(reset(users, token))


async def test_a_token_is_for_one_purpose(users: Users, mails: Mails) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    (*_, verification), (*_, password_reset) = await mails.receive()
    await refuse(reset(users, verification))
    await refuse(verify(users, password_reset))


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
    await refuse(verify(users, verification))
    await refuse(reset(users, password_reset))


async def test_a_reset_needs_a_password_that_keeps_the_rules(users: Users, mails: Mails) -> None:
    await users.CreateUser(new_user())
    await ask_for_reset(users)
    _, (*_, token) = await mails.receive()
    assert (await refusal(reset(users, token, "short"))).fields == ["new_password"]
    await reset(users, token)


async def test_a_new_address_takes_effect_when_it_is_verified(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    await mails.receive()
    change = user_pb2.ChangeEmailRequest(
        user_id=user.user_id, email="new@example.com", password=PASSWORD
    )
    await as_user(channel, user.user_id).ChangeEmail(change)
    await ask_for_reset(users)
    (recipient, _, token), (*_, old_reset) = await mails.receive()
    assert recipient == "new@example.com"
    await verify(users, token)
    (changed,) = await list_users(users)
    assert (changed.email, changed.email_verified) == ("new@example.com", True)
    await refuse(reset(users, old_reset))
    ((recipient, subject, _),) = await mails.receive()
    assert (recipient, subject) == ("ada@example.com", "Your e-mail address was changed")
    await log_in(users, "new@example.com")


async def test_an_address_is_not_changed_by_a_password_that_is_replaced_meanwhile(
    users: Users, channel: grpc.aio.Channel, clean_database_url: str
) -> None:
    user = await users.CreateUser(new_user())
    execute(clean_database_url, "DELETE FROM mails")
    change = user_pb2.ChangeEmailRequest(
        user_id=user.user_id, email="new@example.com", password=PASSWORD
    )
    async with held_back(clean_database_url, "UPDATE users SET password_hash = '$argon2id$'"):
        changing = asyncio.ensure_future(
            refusal(as_user(channel, user.user_id).ChangeEmail(change))
        )
    refused = await changing
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "PASSWORD_CHANGED")
    assert execute(clean_database_url, "SELECT FROM mails") == []


async def test_an_address_that_is_taken_meanwhile_does_not_take_effect(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    change = user_pb2.ChangeEmailRequest(
        user_id=user.user_id, email="new@example.com", password=PASSWORD
    )
    await as_user(channel, user.user_id).ChangeEmail(change)
    _, (*_, token) = await mails.receive()
    await users.CreateUser(new_user("NEW@example.com"))
    refused = await refusal(verify(users, token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN")


async def test_an_address_that_staff_give_is_to_be_verified(users: Users, mails: Mails) -> None:
    user = await users.CreateUser(new_user())
    ((*_, token),) = await mails.receive()
    await verify(users, token)
    await ask_for_reset(users)
    ((*_, old_reset),) = await mails.receive()
    change = user_pb2.UpdateUserRequest(
        user_id=user.user_id, user=user_pb2.User(email="new@example.com")
    )
    changed = await users.UpdateUser(change)
    assert (changed.email, changed.email_verified) == ("new@example.com", False)
    await refuse(reset(users, old_reset))
    (old, told, _), (recipient, _, token) = await mails.receive()
    assert (old, told) == ("ada@example.com", "Your e-mail address was changed")
    assert recipient == "new@example.com"
    await verify(users, token)


async def test_an_address_that_staff_replace_has_no_part_in_the_account(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    session = await log_in(users)
    own = user_pb2.ChangeEmailRequest(
        user_id=user.user_id, email="own@example.com", password=PASSWORD
    )
    await as_user(channel, user.user_id).ChangeEmail(own)
    _, (*_, token) = await mails.receive()
    rename = user_pb2.User(display_name="Grace")
    await users.UpdateUser(user_pb2.UpdateUserRequest(user_id=user.user_id, user=rename))
    refreshed = await refresh(users, session.refresh_token)
    staffs = user_pb2.User(email="new@example.com")
    await users.UpdateUser(user_pb2.UpdateUserRequest(user_id=user.user_id, user=staffs))
    refused = await refusal(refresh(users, refreshed.refresh_token))
    assert refused.reason == "INVALID_REFRESH_TOKEN"
    await refuse(verify(users, token))


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
    clean_database_url: str, mails: Mails
) -> None:
    config = UserSettings(bazaar_environment="development", userservice_verification_required=True)
    resources = Resources(Database(app_url(clean_database_url)), config)
    async with serving_service(SERVICE, resources) as channel:
        users = user_pb2_grpc.UserServiceStub(channel)
        await register(users)
        await mails.receive()
        refused = await refusal(log_in(users))
        assert refused.reason == "INVALID_CREDENTIALS"
        assert await refusal(log_in(users, password="wrong")) == refused
        ((recipient, _, token),) = await mails.receive()
        assert recipient == "ada@example.com"
        await verify(users, token)
        await log_in(users)


async def test_registering_an_address_and_logging_in_does_not_tell_whether_it_was_known(
    clean_database_url: str, mails: Mails
) -> None:
    config = UserSettings(bazaar_environment="development", userservice_verification_required=True)
    resources = Resources(Database(app_url(clean_database_url)), config)
    async with serving_service(SERVICE, resources) as channel:
        users = user_pb2_grpc.UserServiceStub(channel)
        await register(users)
        ((*_, token),) = await mails.receive()
        await verify(users, token)
        refused = []
        for email in ("ada@example.com", "unknown@example.com"):
            await register(users, email, NEW_PASSWORD)
            refused.append(await refusal(log_in(users, email, NEW_PASSWORD)))
        assert refused[0] == refused[1]
        assert refused[0].code == grpc.StatusCode.UNAUTHENTICATED
