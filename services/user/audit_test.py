"""What staff and admins do with users, and themselves, is in the audit log.

Passwords and personal data are not.
"""

import uuid
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.audit import REDACTED
from chassis.audit_testing import find_changes_by_staff
from chassis.caller import Role
from services.user import opaque_tokens
from services.user.main import SERVICE
from services.user.testing import PASSWORD, Users, as_user, new_user

pytest_plugins = ("tools.postgres.testing", "services.user.testing")
DATABASE = "user"

STAFF_ID = str(uuid.UUID(int=7))
OWN = {"ChangeEmail", "ChangePassword"}
"""The RPCs with which users change their own accounts only."""
PERSONAL = frozenset({"email", "displayName", "addresses"})


def to_json(user: user_pb2.User, *changed: str) -> dict[str, Any]:
    """Return a user as it is recorded: without personal data, of which it only has what changed."""
    found: dict[str, Any] = json_format.MessageToDict(user)
    assert set(found) >= PERSONAL
    shown = {name: value for name, value in found.items() if name not in PERSONAL}
    return shown | dict.fromkeys(changed, REDACTED)


def add_token(url: str, purpose: str, user_id: str) -> str:
    """Add a token of a mail to a new address of a user, and return it."""
    token = opaque_tokens.make()
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO mail_tokens (digest, purpose, user_id, email, expire_time)"
            " VALUES (%s, %s, %s, 'new@example.com', now() + interval '1 hour')",
            [opaque_tokens.digest(token), purpose, user_id],
        )
    return token


async def list_events(users: Users) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Return the events, oldest first: who, the RPC, and the user before and after."""
    call = users.ListAuditEvents(user_pb2.ListAuditEventsRequest())
    events = [event async for page in call for event in page.audit_events]
    return [
        (
            event.role,
            event.method.rpartition("/")[2],
            json_format.MessageToDict(event.before),
            json_format.MessageToDict(event.after),
        )
        for event in reversed(events)
    ]


async def test_each_change_of_a_user_by_staff_is_recorded(
    users: Users, channel: grpc.aio.Channel, clean_database_url: str
) -> None:
    staff = as_user(channel, STAFF_ID, Role.STAFF)
    created = await staff.CreateUser(new_user())
    user_id = created.user_id
    for _ in range(2):
        rename = user_pb2.UpdateUserRequest(
            user_id=user_id, user=user_pb2.User(display_name="Grace")
        )
        updated = await staff.UpdateUser(rename)
    for _ in range(2):
        promote = user_pb2.SetRoleRequest(user_id=user_id, role=user_pb2.ROLE_STAFF)
        promoted = await users.SetRole(promote)
    await users.DeleteUser(user_pb2.DeleteUserRequest(user_id=user_id))
    found = await list_events(users)
    recorded = {method for _, method, _, _ in found}
    assert recorded == find_changes_by_staff(SERVICE.descriptor) - OWN
    assert found == [
        ("staff", "CreateUser", {}, to_json(created, *PERSONAL)),
        (
            "staff",
            "UpdateUser",
            to_json(created, "displayName"),
            to_json(updated, "displayName"),
        ),
        ("admin", "SetRole", to_json(updated), to_json(promoted)),
        ("admin", "DeleteUser", to_json(promoted, *PERSONAL), {}),
    ]
    with psycopg.connect(clean_database_url) as connection:
        stored = connection.execute("SELECT audit_events::text FROM audit_events").fetchall()
    address = created.addresses[0]
    for secret in (PASSWORD, "argon2", created.email, created.display_name, address.city):
        assert secret not in str(stored)


@pytest.mark.parametrize("role", [user_pb2.ROLE_STAFF, user_pb2.ROLE_CUSTOMER])
async def test_what_staff_do_with_their_own_accounts_is_recorded(
    users: Users,
    channel: grpc.aio.Channel,
    clean_database_url: str,
    role: user_pb2.Role.ValueType,
) -> None:
    user_id = (await users.CreateUser(new_user())).user_id
    await users.SetRole(user_pb2.SetRoleRequest(user_id=user_id, role=role))
    is_staff = role == user_pb2.ROLE_STAFF
    own = as_user(channel, user_id, Role.STAFF if is_staff else Role.CUSTOMER)
    await own.ChangeEmail(
        user_pb2.ChangeEmailRequest(user_id=user_id, email="new@example.com", password=PASSWORD)
    )
    token = add_token(clean_database_url, "verify_email", user_id)
    # Another user may be logged in where the link of the mail is opened.
    await users.VerifyEmail(user_pb2.VerifyEmailRequest(token=token))
    token = add_token(clean_database_url, "reset_password", user_id)
    anybody: Users = user_pb2_grpc.UserServiceStub(channel)
    await anybody.ResetPassword(
        user_pb2.ResetPasswordRequest(token=token, new_password="battery staple")
    )
    await own.ChangePassword(
        user_pb2.ChangePasswordRequest(
            user_id=user_id, current_password="battery staple", new_password=PASSWORD
        )
    )
    found = await list_events(users)
    expected = ["ChangeEmail", "VerifyEmail", "ResetPassword", "ChangePassword"]
    assert [method for who, method, _, _ in found if who == "staff"] == (
        expected if is_staff else []
    )
    if not is_staff:
        return
    _, _, before, after = found[-3]
    assert (before["email"], after["email"]) == (REDACTED, REDACTED)
    with psycopg.connect(clean_database_url) as connection:
        actors = connection.execute(
            "SELECT DISTINCT user_id::text FROM audit_events WHERE role = 'staff'"
        ).fetchall()
    assert actors == [(user_id,)]


async def test_what_customers_do_with_their_accounts_is_not_recorded(
    users: Users, channel: grpc.aio.Channel
) -> None:
    created = await users.CreateUser(new_user())
    own = as_user(channel, created.user_id)
    user_id = created.user_id
    await own.UpdateUser(
        user_pb2.UpdateUserRequest(user_id=user_id, user=user_pb2.User(display_name="Grace"))
    )
    await own.DeleteUser(user_pb2.DeleteUserRequest(user_id=user_id))
    assert [method for _, method, _, _ in await list_events(users)] == ["CreateUser"]
