"""UserService through a channel, on a real database."""

import asyncio
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import field_mask_pb2

from bazaar.user.v1 import user_pb2
from chassis.testing import held_back, refusal
from services.user.testing import Users, as_user, new_user

pytest_plugins = ("tools.postgres.testing", "services.user.testing")
DATABASE = "user"
UNKNOWN_ID = "0199aaaa-0000-7000-8000-000000000000"


async def test_create_user_returns_what_get_user_finds(users: Users) -> None:
    created = await users.CreateUser(new_user())
    found = await users.GetUser(user_pb2.GetUserRequest(user_id=created.user_id))
    assert found == created
    assert created.addresses[0].lines == ["1 Way"]


async def test_create_user_stores_the_password_as_argon2id_only(
    users: Users, clean_database_url: str
) -> None:
    await users.CreateUser(new_user())
    with psycopg.connect(clean_database_url) as connection:
        row = connection.execute("SELECT password_hash, users::text FROM users").fetchone()
    assert row is not None
    assert row[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "correct horse" not in row[1]


async def test_create_user_rejects_an_email_address_in_another_case(users: Users) -> None:
    await users.CreateUser(new_user("Ada@Example.com"))
    refused = await refusal(users.CreateUser(new_user("aDA@eXAMPLE.COM")))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "EMAIL_TAKEN"


async def test_create_user_names_the_invalid_field(users: Users) -> None:
    refused = await refusal(users.CreateUser(new_user("nobody")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.metadata["http_status"] == "422"
    assert refused.fields == ["email"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "a" * 250 + "@b.de"}, "email"),
        ({"password": "x" * 7}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"display_name": "x" * 201}, "display_name"),
        ({"addresses": [user_pb2.Address(region_code="GB")] * 20}, "addresses"),
        (
            {"addresses": [user_pb2.Address(region_code="GB", lines=["a"] * 6)]},
            "addresses[1].lines",
        ),
    ],
)
async def test_create_user_enforces_the_rules_of_the_proto(
    users: Users, changes: dict[str, Any], field: str
) -> None:
    request = new_user()
    request.MergeFrom(user_pb2.CreateUserRequest(**changes))
    assert (await refusal(users.CreateUser(request))).fields == [field]


@pytest.mark.parametrize("user_id", ["", "7", "0199aaaa00007000800000000000000", "{" + UNKNOWN_ID])
async def test_get_user_rejects_an_id_that_is_not_a_uuid(users: Users, user_id: str) -> None:
    refused = await refusal(users.GetUser(user_pb2.GetUserRequest(user_id=user_id)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["user_id"]


async def test_get_user_of_a_missing_id_is_not_found(users: Users) -> None:
    refused = await refusal(users.GetUser(user_pb2.GetUserRequest(user_id=UNKNOWN_ID)))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.reason == "USER_NOT_FOUND"


async def test_update_user_changes_only_what_the_mask_names(users: Users) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id,
        user=user_pb2.User(email="new@example.com", display_name="New"),
        update_mask=field_mask_pb2.FieldMask(paths=["display_name"]),
    )
    updated = await users.UpdateUser(request)
    assert (updated.email, updated.display_name) == ("ada@example.com", "New")
    assert updated.addresses == created.addresses
    assert updated.etag != created.etag


@pytest.mark.parametrize(
    "path", ["user_id", "etag", "create_time", "password", "addresses.city", ""]
)
async def test_update_user_rejects_a_mask_over_other_fields(users: Users, path: str) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id, update_mask=field_mask_pb2.FieldMask(paths=[path])
    )
    refused = await refusal(users.UpdateUser(request))
    assert refused.reason == "INVALID_UPDATE_MASK"


@pytest.mark.parametrize("path", ["email", "display_name", "addresses"])
async def test_update_user_enforces_the_rules_of_the_proto(users: Users, path: str) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id,
        user=user_pb2.User(
            email="x" * 1_000,
            display_name="x" * 1_000,
            addresses=[user_pb2.Address(region_code="GB")] * 21,
        ),
        update_mask=field_mask_pb2.FieldMask(paths=[path]),
    )
    refused = await refusal(users.UpdateUser(request))
    assert (refused.fields, refused.metadata["http_status"]) == ([path], "422")


async def test_update_user_rejects_a_stale_etag(users: Users) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id, user=user_pb2.User(display_name="New", etag=created.etag)
    )
    await users.UpdateUser(request)
    refused = await refusal(users.UpdateUser(request))
    assert refused.code == grpc.StatusCode.ABORTED


async def test_update_user_rejects_a_taken_email_address(users: Users) -> None:
    await users.CreateUser(new_user())
    other = await users.CreateUser(new_user("other@example.com"))
    request = user_pb2.UpdateUserRequest(
        user_id=other.user_id, user=user_pb2.User(email="ADA@example.com")
    )
    refused = await refusal(users.UpdateUser(request))
    assert refused.reason == "EMAIL_TAKEN"


async def test_update_user_sees_a_concurrent_change(users: Users, clean_database_url: str) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id,
        user=user_pb2.User(email="new@example.com"),
        update_mask=field_mask_pb2.FieldMask(paths=["email"]),
    )
    async with held_back(clean_database_url, "UPDATE users SET display_name = 'Countess'"):
        updating = asyncio.ensure_future(users.UpdateUser(request))
    updated = await updating
    assert (updated.email, updated.display_name) == ("new@example.com", "Countess")


async def test_delete_user_deletes_once(users: Users) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.DeleteUserRequest(user_id=created.user_id)
    await users.DeleteUser(request)
    refused = await refusal(users.DeleteUser(request))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_list_users_pages_through_all_users(users: Users) -> None:
    created = [await users.CreateUser(new_user(f"user{number}@example.com")) for number in range(5)]
    found: list[user_pb2.User] = []
    token = ""
    for expected in (2, 2, 1):
        page = await users.ListUsers(user_pb2.ListUsersRequest(page_size=2, page_token=token))
        assert len(page.users) == expected
        found += page.users
        token = page.next_page_token
    assert token == ""
    assert found == created


async def test_list_users_has_no_page_after_a_last_one_that_is_full(users: Users) -> None:
    for number in range(4):
        await users.CreateUser(new_user(f"user{number}@example.com"))
    first = await users.ListUsers(user_pb2.ListUsersRequest(page_size=2))
    request = user_pb2.ListUsersRequest(page_size=2, page_token=first.next_page_token)
    second = await users.ListUsers(request)
    assert (len(second.users), second.next_page_token) == (2, "")


async def test_list_users_returns_fewer_if_they_are_large(users: Users) -> None:
    address = user_pb2.Address(lines=["\U0001f3e0" * 200] * 5, region_code="GB")
    large = new_user()
    large.addresses.extend([address] * 19)
    for number in range(30):
        large.email = f"user{number}@example.com"
        await users.CreateUser(large)
    request = user_pb2.ListUsersRequest(page_size=1_000)
    pages = [await users.ListUsers(request)]
    while token := pages[-1].next_page_token:
        request.page_token = token
        pages.append(await users.ListUsers(request))
    assert all(0 < len(page.users) < 30 for page in pages)
    assert [user.email for page in pages for user in page.users] == [
        f"user{number}@example.com" for number in range(30)
    ]


@pytest.mark.parametrize("token", ["x", "AAAA", "WyJ4Il0", "bm90IGpzb24"])
async def test_list_users_rejects_an_invalid_page_token(users: Users, token: str) -> None:
    refused = await refusal(users.ListUsers(user_pb2.ListUsersRequest(page_token=token)))
    assert refused.reason == "INVALID_PAGE_TOKEN"


async def test_change_password_requires_the_current_one(
    users: Users, channel: grpc.aio.Channel
) -> None:
    created = await users.CreateUser(new_user())
    users = as_user(channel, created.user_id)
    request = user_pb2.ChangePasswordRequest(
        user_id=created.user_id, current_password="correct horse", new_password="battery staple"
    )
    await users.ChangePassword(request)
    refused = await refusal(users.ChangePassword(request))
    assert refused.code == grpc.StatusCode.PERMISSION_DENIED
    assert refused.reason == "WRONG_PASSWORD"


async def test_change_password_bounds_the_new_one(users: Users, channel: grpc.aio.Channel) -> None:
    created = await users.CreateUser(new_user())
    users = as_user(channel, created.user_id)
    request = user_pb2.ChangePasswordRequest(
        user_id=created.user_id, current_password="correct horse", new_password="x" * 7
    )
    assert (await refusal(users.ChangePassword(request))).fields == ["new_password"]


async def test_change_password_sees_a_concurrent_change(
    users: Users, channel: grpc.aio.Channel, clean_database_url: str
) -> None:
    created = await users.CreateUser(new_user())
    users = as_user(channel, created.user_id)
    request = user_pb2.ChangePasswordRequest(
        user_id=created.user_id, current_password="correct horse", new_password="battery staple"
    )
    # The call verifies the hash before the change, and waits for its lock when it writes.
    async with held_back(clean_database_url, "UPDATE users SET password_hash = '$argon2id$other'"):
        changing = asyncio.ensure_future(refusal(users.ChangePassword(request)))
    refused = await changing
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "PASSWORD_CHANGED")
    with psycopg.connect(clean_database_url) as connection:
        row = connection.execute("SELECT password_hash FROM users").fetchone()
    assert row == ("$argon2id$other",)


async def test_batch_get_users_omits_missing_ones(users: Users) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.BatchGetUsersRequest(user_ids=[created.user_id, UNKNOWN_ID, created.user_id])
    response = await users.BatchGetUsers(request)
    assert response.users == [created]


async def test_batch_get_users_returns_the_fields_of_the_mask(users: Users) -> None:
    created = await users.CreateUser(new_user())
    mask = field_mask_pb2.FieldMask(paths=["user_id", "display_name"])
    request = user_pb2.BatchGetUsersRequest(user_ids=[created.user_id], read_mask=mask)
    response = await users.BatchGetUsers(request)
    expected = user_pb2.User(user_id=created.user_id, display_name=created.display_name)
    assert response.users == [expected]


async def test_batch_get_users_rejects_a_mask_with_an_unknown_field(users: Users) -> None:
    mask = field_mask_pb2.FieldMask(paths=["password"])
    request = user_pb2.BatchGetUsersRequest(user_ids=[UNKNOWN_ID], read_mask=mask)
    refused = await refusal(users.BatchGetUsers(request))
    assert refused.reason == "INVALID_READ_MASK"


async def test_batch_get_users_bounds_the_batch(users: Users) -> None:
    request = user_pb2.BatchGetUsersRequest(user_ids=[UNKNOWN_ID] * 1_001)
    refused = await refusal(users.BatchGetUsers(request))
    assert refused.reason == "BATCH_TOO_LARGE"


async def test_batch_get_users_rejects_what_exceeds_a_message(
    users: Users, clean_database_url: str
) -> None:
    large = new_user()
    address = user_pb2.Address(lines=["\U0001f3e0" * 200] * 5, region_code="GB")
    large.addresses.extend([address] * 19)
    await users.CreateUser(large)
    with psycopg.connect(clean_database_url) as connection:
        rows = connection.execute(
            "INSERT INTO users (email, display_name, addresses, password_hash)"
            " SELECT number || email, display_name, addresses, password_hash"
            " FROM users, generate_series(1, 60) number RETURNING user_id::text"
        ).fetchall()
    request = user_pb2.BatchGetUsersRequest(user_ids=[row[0] for row in rows])
    refused = await refusal(users.BatchGetUsers(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "RESPONSE_TOO_LARGE",
    )
    request.read_mask.paths.append("email")
    assert len((await users.BatchGetUsers(request)).users) == 60


async def test_change_password_changes_the_etag_and_the_update_time(
    users: Users, channel: grpc.aio.Channel
) -> None:
    created = await users.CreateUser(new_user())
    await as_user(channel, created.user_id).ChangePassword(
        user_pb2.ChangePasswordRequest(
            user_id=created.user_id, current_password="correct horse", new_password="battery staple"
        )
    )
    found = await users.GetUser(user_pb2.GetUserRequest(user_id=created.user_id))
    assert found.update_time.ToDatetime() > created.update_time.ToDatetime()
    assert found.etag != created.etag


@pytest.mark.parametrize("paths", [(), ("display_name", "addresses"), ("*",)])
async def test_update_user_that_changes_no_value_changes_nothing(
    users: Users, paths: tuple[str, ...]
) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id,
        user=created if paths else None,
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    assert await users.UpdateUser(request) == created
    found = await users.GetUser(user_pb2.GetUserRequest(user_id=created.user_id))
    assert found == created


async def test_update_user_that_changes_nothing_still_compares_the_etag(users: Users) -> None:
    created = await users.CreateUser(new_user())
    request = user_pb2.UpdateUserRequest(
        user_id=created.user_id, user=user_pb2.User(etag="of another version")
    )
    refused = await refusal(users.UpdateUser(request))
    assert refused.code == grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ada@m\u00fcnchen.de", "ada@xn--mnchen-3ya.de"),
        ("ada@m\u00fcnchen.de", "ADA@MU\u0308NCHEN.de"),
        ("zo\u00eb@example.com", "ZOE\u0308@example.com"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
    ],
)
async def test_email_addresses_are_unique_in_normal_form(
    users: Users, first: str, second: str
) -> None:
    created = await users.CreateUser(new_user(first))
    assert created.email == first
    refused = await refusal(users.CreateUser(new_user(second)))
    assert refused.reason == "EMAIL_TAKEN"


async def test_update_user_to_equivalent_values_changes_nothing(
    users: Users,
) -> None:
    created = await users.CreateUser(new_user("ada@m\u00fcnchen.de"))
    changes = user_pb2.User(email="ada@xn--mnchen-3ya.de", display_name=" Ada ")
    request = user_pb2.UpdateUserRequest(user_id=created.user_id, user=changes)
    assert await users.UpdateUser(request) == created
