"""New e-mail addresses: those that users take, and those that staff give them."""

import asyncio

import grpc

from bazaar.user.v1 import user_pb2
from chassis.testing import held_back, refusal
from services.user.accounts_testing import (
    Mails,
    ask_for_reset,
    execute,
    expect_invalid_token,
    list_users,
    reset,
    verify,
)
from services.user.testing import PASSWORD, Users, as_user, log_in, new_user, refresh

pytest_plugins = (
    "tools.postgres.testing",
    "services.user.testing",
    "chassis.testing",
    "services.user.accounts_testing",
)
DATABASE = "user"


async def change_email(channel: grpc.aio.Channel, user: user_pb2.User) -> None:
    """Let a user ask for another address, new@example.com."""
    change = user_pb2.ChangeEmailRequest(
        user_id=user.user_id, email="new@example.com", password=PASSWORD
    )
    await as_user(channel, user.user_id).ChangeEmail(change)


async def test_a_new_address_takes_effect_when_it_is_verified(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    await mails.receive()
    await change_email(channel, user)
    await ask_for_reset(users)
    (recipient, _, token), (*_, old_reset) = await mails.receive()
    assert recipient == "new@example.com"
    await verify(users, token)
    (changed,) = await list_users(users)
    assert (changed.email, changed.email_verified) == ("new@example.com", True)
    await expect_invalid_token(reset(users, old_reset))
    ((recipient, subject, _),) = await mails.receive()
    assert (recipient, subject) == ("ada@example.com", "Your e-mail address was changed")
    await log_in(users, "new@example.com")


async def test_an_address_is_not_changed_by_a_password_that_is_replaced_meanwhile(
    users: Users, channel: grpc.aio.Channel, clean_database_url: str
) -> None:
    user = await users.CreateUser(new_user())
    execute(clean_database_url, "DELETE FROM mails")
    async with held_back(clean_database_url, "UPDATE users SET password_hash = '$argon2id$'"):
        changing = asyncio.ensure_future(refusal(change_email(channel, user)))
    refused = await changing
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "PASSWORD_CHANGED")
    assert execute(clean_database_url, "SELECT FROM mails") == []


async def test_an_address_that_is_taken_meanwhile_does_not_take_effect(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    await change_email(channel, user)
    _, (*_, token) = await mails.receive()
    await users.CreateUser(new_user("NEW@example.com"))
    refused = await refusal(verify(users, token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN")


async def test_a_reset_that_is_mailed_while_the_address_changes_is_refused(
    users: Users, mails: Mails, clean_database_url: str
) -> None:
    await users.CreateUser(new_user())
    await mails.receive()
    await ask_for_reset(users)
    change = (
        "UPDATE users SET email = 'new@example.com'"
        " WHERE user_id IN (SELECT user_id FROM users FOR UPDATE)"
    )
    async with held_back(clean_database_url, change):
        receiving = asyncio.ensure_future(mails.receive())
    ((recipient, _, token),) = await receiving
    assert recipient == "ada@example.com"
    await expect_invalid_token(reset(users, token))


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
    await expect_invalid_token(reset(users, old_reset))
    (old, told, _), (recipient, _, token) = await mails.receive()
    assert (old, told) == ("ada@example.com", "Your e-mail address was changed")
    assert recipient == "new@example.com"
    await verify(users, token)


async def test_an_address_that_staff_replace_has_no_part_in_the_account(
    users: Users, channel: grpc.aio.Channel, mails: Mails
) -> None:
    user = await users.CreateUser(new_user())
    session = await log_in(users)
    await change_email(channel, user)
    _, (*_, token) = await mails.receive()
    rename = user_pb2.User(display_name="Grace")
    await users.UpdateUser(user_pb2.UpdateUserRequest(user_id=user.user_id, user=rename))
    refreshed = await refresh(users, session.refresh_token)
    staffs = user_pb2.User(email="other@example.com")
    await users.UpdateUser(user_pb2.UpdateUserRequest(user_id=user.user_id, user=staffs))
    refused = await refusal(refresh(users, refreshed.refresh_token))
    assert refused.reason == "INVALID_REFRESH_TOKEN"
    await expect_invalid_token(verify(users, token))
