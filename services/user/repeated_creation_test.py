"""CreateUser that is sent again with its idempotency key, on a real database."""

import asyncio
import hashlib
from typing import Any

import grpc

from bazaar.user.v1 import user_pb2
from chassis.caller import Role
from chassis.testing import refusal
from services.user.accounts_testing import Mails, execute
from services.user.testing import PASSWORD, Users, as_user, log_in, new_user

pytest_plugins = (
    "tools.postgres.testing",
    "services.user.testing",
    "chassis.testing",
    "services.user.accounts_testing",
)
DATABASE = "user"


def create(users: Users, request: user_pb2.CreateUserRequest, key: str = "hire-8") -> Any:
    return users.CreateUser(request, metadata=(("idempotency-key", key),))


async def test_repeated_request_returns_the_user_whom_it_created(
    users: Users, mails: Mails, clean_database_url: str
) -> None:
    created = await create(users, new_user())
    assert await create(users, new_user()) == created
    assert len(await mails.receive()) == 1
    assert len(execute(clean_database_url, "SELECT method FROM audit_events")) == 1


async def test_concurrent_requests_with_one_key_create_one_user(users: Users) -> None:
    created = await asyncio.gather(*(create(users, new_user()) for _ in range(5)))
    assert len({user.user_id for user in created}) == 1


async def test_other_details_with_the_key_are_refused(users: Users) -> None:
    await create(users, new_user())
    refused = await refusal(create(users, new_user("grace@example.com")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.metadata["http_status"]) == ("IDEMPOTENCY_KEY_REUSED", "422")


async def test_user_of_another_key_or_of_another_creator_is_not_returned(
    users: Users, channel: grpc.aio.Channel
) -> None:
    created = await create(users, new_user())
    other = as_user(channel, created.user_id, Role.ADMIN)
    for stub, key in ((users, "hire-9"), (other, "hire-8")):
        refused = await refusal(create(stub, new_user(), key))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN")


async def test_neither_a_password_nor_its_hash_is_part_of_what_is_stored_of_a_request(
    users: Users, clean_database_url: str
) -> None:
    request = new_user()
    created = await create(users, request)
    request.password = "another password"
    assert await create(users, request) == created
    await log_in(users, password=PASSWORD)
    request.ClearField("password")
    content = request.SerializeToString(deterministic=True)
    ((stored,),) = execute(clean_database_url, "SELECT request_hash FROM users")
    assert stored == hashlib.sha256(content).digest()
