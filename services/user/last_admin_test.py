"""There is always an admin, once there was one."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest

from bazaar.user.v1 import user_pb2
from chassis.caller import Role
from chassis.database import Database
from chassis.testing import refusal, wait_for_blocked
from services.user import account_repository
from services.user.testing import Users, as_user, new_user

pytest_plugins = ("tools.postgres.testing", "services.user.testing", "chassis.testing")
DATABASE = "user"
Leave = Callable[[Users, user_pb2.User], Awaitable[object]]


async def make_admin(users: Users, email: str = "ada@example.com") -> user_pb2.User:
    user = await users.CreateUser(new_user(email))
    return await set_role(users, user, user_pb2.ROLE_ADMIN)


async def set_role(
    users: Users, user: user_pb2.User, role: "user_pb2.Role.ValueType"
) -> user_pb2.User:
    return await users.SetRole(user_pb2.SetRoleRequest(user_id=user.user_id, role=role))


async def demote(users: Users, user: user_pb2.User) -> object:
    return await set_role(users, user, user_pb2.ROLE_STAFF)


async def delete(users: Users, user: user_pb2.User) -> object:
    return await users.DeleteUser(user_pb2.DeleteUserRequest(user_id=user.user_id))


@pytest.mark.parametrize("leave", [demote, delete])
async def test_the_only_admin_remains(
    users: Users, channel: grpc.aio.Channel, leave: Leave
) -> None:
    admin = await make_admin(users)
    own = as_user(channel, admin.user_id, Role.ADMIN)
    refused = await refusal(leave(own, admin))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMIN")
    assert await set_role(own, admin, user_pb2.ROLE_ADMIN) == admin
    await make_admin(users, "grace@example.com")
    await leave(own, admin)


@pytest.mark.parametrize("leave", [demote, delete])
async def test_of_two_admins_who_leave_at_once_one_remains(
    users: Users, channel: grpc.aio.Channel, database: Database, leave: Leave
) -> None:
    first = await make_admin(users)
    second = await make_admin(users, "grace@example.com")
    own = as_user(channel, second.user_id, Role.ADMIN)
    async with database.connection() as watching:
        async with database.transaction() as connection:
            first_id = uuid.UUID(first.user_id)
            assert await account_repository.has_other_admin(connection, first_id)
            await account_repository.set_role(connection, first_id, Role.STAFF)
            leaving = asyncio.ensure_future(refusal(leave(own, second)))
            await wait_for_blocked(watching)
        assert (await leaving).reason == "LAST_ADMIN"
