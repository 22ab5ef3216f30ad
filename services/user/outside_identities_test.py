"""The accounts of outside identities: who is made, who is linked, and which token was used."""

import asyncio
import base64
import time

import grpc
import jwt
import psycopg
import pytest

from bazaar.user.v1 import user_pb2
from chassis.database import Database
from chassis.testing import refusal, wait_for_blocked
from chassis.token_testing import USER_ID
from services.user import id_tokens
from services.user.account_repository import (
    insert_identity,
    insert_unless_taken,
    lock_identity,
)
from services.user.accounts import Accounts
from services.user.issuer_testing import AUDIENCE, KEYS, Claims, Issuer, exchange, refuse
from services.user.passwords import Passwords
from services.user.testing import PASSWORD, Users, log_in, new_user, refresh

pytest_plugins = ("tools.postgres.testing", "chassis.testing", "services.user.issuer_testing")
DATABASE = "user"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("algorithm", KEYS)
async def test_the_first_login_makes_a_user(users: Users, issuer: Issuer, algorithm: str) -> None:
    user_id = await exchange(users, issuer.token(algorithm))
    (user,) = (await users.ListUsers(user_pb2.ListUsersRequest())).users
    assert (user.user_id, user.email, user.display_name) == (
        user_id,
        "ada@example.com",
        "Ada Lovelace",
    )
    assert (user.email_verified, user.role) == (True, user_pb2.ROLE_CUSTOMER)
    assert (await refusal(log_in(users, password=""))).reason == "INVALID_CREDENTIALS"


async def test_later_logins_find_the_user_by_the_subject(users: Users, issuer: Issuer) -> None:
    user_id = await exchange(users, issuer.token())
    assert await exchange(users, issuer.token(email="new@example.com")) == user_id
    assert await exchange(users, issuer.token(email_verified=False)) == user_id
    other = await exchange(users, issuer.token(sub="5678", email="other@example.com"))
    assert other != user_id
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


async def test_concurrent_first_logins_make_one_user(
    users: Users, issuer: Issuer, database: Database
) -> None:
    async with database.connection() as watching:
        async with database.transaction() as connection:
            assert await lock_identity(connection, issuer.url, "1234") is None
            user_id = await insert_unless_taken(
                connection, "ada@example.com", "Ada", None, email_verified=True
            )
            assert user_id is not None
            await insert_identity(connection, issuer.url, "1234", user_id)
            second = asyncio.ensure_future(exchange(users, issuer.token()))
            await wait_for_blocked(watching)
        assert await second == str(user_id)


async def test_an_identity_is_linked_to_a_user_who_has_verified_the_address(
    users: Users, issuer: Issuer, clean_database_url: str
) -> None:
    user = await users.CreateUser(new_user())
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE users SET email_verified = true")
    assert await exchange(users, issuer.token()) == user.user_id
    await log_in(users, password=PASSWORD)


async def test_whoever_registered_the_address_unverified_has_no_part_in_the_account(
    users: Users, issuer: Issuer, clean_database_url: str
) -> None:
    user = await users.CreateUser(new_user())
    strangers = await log_in(users, password=PASSWORD)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute(
            "INSERT INTO outside_identities (issuer, subject, user_id) VALUES (%s, 'other', %s)",
            [issuer.url, user.user_id],
        )
        connection.execute(
            "INSERT INTO mail_tokens (digest, purpose, user_id, email, expire_time)"
            " VALUES (sha256('x'), 'verify_email', %s, 'mallory@example.com', 'infinity')",
            [user.user_id],
        )
    assert await exchange(users, issuer.token()) == user.user_id
    (owned,) = (await users.ListUsers(user_pb2.ListUsersRequest())).users
    assert owned.email_verified
    assert (await refusal(log_in(users, password=PASSWORD))).reason == "INVALID_CREDENTIALS"
    refused = await refusal(refresh(users, strangers.refresh_token))
    assert refused.reason == "INVALID_REFRESH_TOKEN"
    assert (await refuse(users, issuer.token(sub="other", email=None))).reason == (
        "IDENTITY_NOT_LINKED"
    )
    with psycopg.connect(clean_database_url) as connection:
        assert (
            connection.execute("SELECT FROM mail_tokens UNION ALL SELECT FROM mails").rowcount == 0
        )


async def test_an_identity_is_not_linked_to_an_address_that_differs_in_case(
    users: Users, issuer: Issuer
) -> None:
    await users.CreateUser(new_user("Ada@example.com"))
    refused = await refuse(users, issuer.token())
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "IDENTITY_NOT_LINKED",
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "false"},
        {"email": None},
        {"email": "nobody"},
        {"email": ["ada@example.com"]},
    ],
)
async def test_a_user_is_not_made_of_an_address_that_the_issuer_has_not_verified(
    users: Users, issuer: Issuer, claims: Claims
) -> None:
    assert (await refuse(users, issuer.token(**claims))).reason == "IDENTITY_NOT_LINKED"
    assert list((await users.ListUsers(user_pb2.ListUsersRequest())).users) == []


@pytest.mark.parametrize("name", [None, "", "x" * 201, "A\x00da", 7])
async def test_a_name_that_cannot_be_stored_is_replaced(
    users: Users, issuer: Issuer, name: object
) -> None:
    await exchange(users, issuer.token(name=name))
    (user,) = (await users.ListUsers(user_pb2.ListUsersRequest())).users
    assert user.display_name == "ada"


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_is_used_once(users: Users, issuer: Issuer, algorithm: str) -> None:
    token = issuer.token(algorithm)
    await exchange(users, token)
    refused = await refuse(users, token)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_ID_TOKEN")


async def test_a_token_is_not_used_by_a_login_that_fails(
    users: Users, issuer: Issuer, clean_database_url: str
) -> None:
    token = issuer.token()
    with psycopg.connect(clean_database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE sessions ADD CONSTRAINT full_disk CHECK (false)")
        try:
            assert (await refuse(users, token)).code is grpc.StatusCode.INTERNAL
        finally:
            connection.execute("ALTER TABLE sessions DROP CONSTRAINT full_disk")
    await exchange(users, token)


async def test_a_password_that_changes_during_a_login_does_not_refuse_it(
    users: Users, issuer: Issuer, database: Database, clean_database_url: str
) -> None:
    user_id = await exchange(users, issuer.token())
    async with database.connection() as watching:
        async with await psycopg.AsyncConnection.connect(clean_database_url) as connection:
            await connection.execute("LOCK TABLE sessions IN SHARE MODE")
            login = asyncio.ensure_future(exchange(users, issuer.token()))
            await wait_for_blocked(watching)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await connection.execute("SELECT FROM users FOR UPDATE NOWAIT")
        assert await login == user_id


async def test_a_used_token_is_known_by_another_form_of_its_signature(
    users: Users, issuer: Issuer
) -> None:
    token = issuer.token("ES256")
    await exchange(users, token)
    signed, _, encoded = token.rpartition(".")
    signature = base64.urlsafe_b64decode(encoded + "==")
    r, s = (int.from_bytes(each) for each in (signature[:32], signature[32:]))
    other = (P256_ORDER - s).to_bytes(32)
    encoded = base64.urlsafe_b64encode(r.to_bytes(32) + other).rstrip(b"=").decode()
    assert jwt.decode(
        f"{signed}.{encoded}", KEYS["ES256"].public_key(), ["ES256"], audience=AUDIENCE
    )
    assert (await refuse(users, f"{signed}.{encoded}")).reason == "INVALID_ID_TOKEN"


async def test_a_used_token_is_remembered_until_it_expires(
    users: Users, issuer: Issuer, database: Database, clean_database_url: str
) -> None:
    now = int(time.time())
    kept = issuer.token(exp=now - id_tokens.LEEWAY_SECONDS + 30)
    await exchange(users, kept)
    await exchange(users, issuer.token(iat=now - id_tokens.MAX_AGE_SECONDS + 30, exp=2**33))
    with psycopg.connect(clean_database_url) as connection:
        seconds = connection.execute(
            "SELECT extract(epoch FROM expire_time)::integer FROM used_id_tokens"
        ).fetchall()
        assert seconds == [(now + 30,)] * 2
        connection.execute("INSERT INTO used_id_tokens VALUES (sha256('x'), now())")
    await Accounts(database, Passwords(memory_kib=8)).sweep()
    assert (await refuse(users, kept)).reason == "INVALID_ID_TOKEN"
    with psycopg.connect(clean_database_url) as connection:
        assert connection.execute("SELECT FROM used_id_tokens").rowcount == 2


async def test_a_deleted_user_can_begin_again(users: Users, issuer: Issuer) -> None:
    user_id = await exchange(users, issuer.token())
    await users.DeleteUser(user_pb2.DeleteUserRequest(user_id=user_id))
    assert await exchange(users, issuer.token()) != user_id


async def test_a_user_without_a_password_cannot_change_it(
    users: Users, clean_database_url: str
) -> None:
    with psycopg.connect(clean_database_url) as connection:
        # The caller of `users`.
        connection.execute(
            "INSERT INTO users (user_id, email, display_name) VALUES (%s, 'a@b.de', 'Ada')",
            [USER_ID],
        )
    request = user_pb2.ChangePasswordRequest(
        user_id=str(USER_ID), current_password="None", new_password=PASSWORD
    )
    assert (await refusal(users.ChangePassword(request))).reason == "WRONG_PASSWORD"
