"""Which users exist for whom, and who may change them."""

import uuid
from collections.abc import Awaitable

import grpc
import psycopg
import pytest

from bazaar.user.v1 import user_pb2
from chassis.caller import Role
from chassis.testing import refusal
from services.user.testing import PASSWORD, Users, as_user, new_user

pytest_plugins = ("tools.postgres.testing", "services.user.testing")
DATABASE = "user"


@pytest.fixture
async def user(users: Users) -> user_pb2.User:
    return await users.CreateUser(new_user())


def name(user_id: str) -> user_pb2.UpdateUserRequest:
    return user_pb2.UpdateUserRequest(user_id=user_id, user=user_pb2.User(display_name="New"))


async def test_users_exist_for_themselves(channel: grpc.aio.Channel, user: user_pb2.User) -> None:
    own = as_user(channel, user.user_id)
    assert await own.GetUser(user_pb2.GetUserRequest(user_id=user.user_id)) == user
    assert (await own.UpdateUser(name(user.user_id))).display_name == "New"
    await own.DeleteUser(user_pb2.DeleteUserRequest(user_id=user.user_id))


async def test_users_do_not_exist_for_other_customers(
    channel: grpc.aio.Channel, users: Users, user: user_pb2.User
) -> None:
    stranger = await users.CreateUser(new_user("stranger@example.com"))
    other = as_user(channel, stranger.user_id)
    user_id = user.user_id
    calls: list[Awaitable[object]] = [
        other.GetUser(user_pb2.GetUserRequest(user_id=user_id)),
        other.UpdateUser(name(user_id)),
        other.DeleteUser(user_pb2.DeleteUserRequest(user_id=user_id)),
        other.ChangePassword(
            user_pb2.ChangePasswordRequest(
                user_id=user_id, current_password=PASSWORD, new_password="battery staple"
            )
        ),
        other.ChangeEmail(
            user_pb2.ChangeEmailRequest(user_id=user_id, email="new@example.com", password=PASSWORD)
        ),
    ]
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    assert await users.GetUser(user_pb2.GetUserRequest(user_id=user_id)) == user


async def test_staff_cannot_change_the_password_of_a_user(
    users: Users, user: user_pb2.User
) -> None:
    request = user_pb2.ChangePasswordRequest(
        user_id=user.user_id, current_password=PASSWORD, new_password="battery staple"
    )
    assert (await refusal(users.ChangePassword(request))).code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("role", [user_pb2.ROLE_STAFF, user_pb2.ROLE_ADMIN])
async def test_staff_who_are_not_admins_change_only_themselves_and_customers(
    channel: grpc.aio.Channel,
    users: Users,
    user: user_pb2.User,
    role: "user_pb2.Role.ValueType",
) -> None:
    colleague = await users.CreateUser(new_user("colleague@example.com"))
    await users.SetRole(user_pb2.SetRoleRequest(user_id=colleague.user_id, role=role))
    staff = as_user(channel, str(uuid.uuid4()), Role.STAFF)
    assert (await staff.UpdateUser(name(user.user_id))).display_name == "New"
    for call in (
        staff.UpdateUser(name(colleague.user_id)),
        staff.DeleteUser(user_pb2.DeleteUserRequest(user_id=colleague.user_id)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ROLE_MISSING",
        )
    own = as_user(channel, colleague.user_id, Role.STAFF)
    assert (await own.UpdateUser(name(colleague.user_id))).display_name == "New"
    assert (await users.UpdateUser(name(colleague.user_id))).display_name == "New"


@pytest.mark.parametrize("email", ["new@example.com", "other@example.com"])
async def test_users_change_their_own_addresses_with_their_passwords_only(
    channel: grpc.aio.Channel, users: Users, user: user_pb2.User, email: str
) -> None:
    await users.CreateUser(new_user("other@example.com"))
    own = as_user(channel, user.user_id)
    update = user_pb2.UpdateUserRequest(user_id=user.user_id, user=user_pb2.User(email=email))
    refused = await refusal(own.UpdateUser(update))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "PASSWORD_REQUIRED",
    )
    update.user.email = user.email
    assert await own.UpdateUser(update) == user
    change = user_pb2.ChangeEmailRequest(user_id=user.user_id, email=email, password="wrong")
    refused = await refusal(own.ChangeEmail(change))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "WRONG_PASSWORD",
    )
    change.password = PASSWORD
    assert (await refusal(users.ChangeEmail(change))).code == grpc.StatusCode.NOT_FOUND
    change.email = "nobody"
    assert (await refusal(own.ChangeEmail(change))).fields == ["email"]


async def test_a_new_address_responds_alike_whether_it_is_taken_or_not(
    channel: grpc.aio.Channel, users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    await users.CreateUser(new_user("other@example.com"))
    own = as_user(channel, user.user_id)
    responses = [
        await own.ChangeEmail(
            user_pb2.ChangeEmailRequest(user_id=user.user_id, email=email, password=PASSWORD)
        )
        for email in ("new@example.com", "other@example.com")
    ]
    assert responses[0] == responses[1]
    assert await own.GetUser(user_pb2.GetUserRequest(user_id=user.user_id)) == user
    with psycopg.connect(clean_database_url) as connection:
        mails = connection.execute(
            "SELECT template, email FROM mails WHERE user_id = %s ORDER BY mail_id", [user.user_id]
        ).fetchall()
    assert mails == [
        ("verify_email", "ada@example.com"),
        ("verify_email", "new@example.com"),
        ("verify_email", "other@example.com"),
    ]
