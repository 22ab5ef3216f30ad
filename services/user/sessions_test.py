"""Login, refresh and logout through a channel, on a real database."""

import asyncio
import datetime as dt
import uuid
from typing import LiteralString

import argon2
import grpc
import jwt
import psycopg
import pytest

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.caller import Role
from chassis.database import Database
from chassis.testing import Events, authorized, refusal
from services.user.cipher import Cipher
from services.user.passwords import Passwords
from services.user.sessions import Sessions
from services.user.signing_keys import SigningKeys
from services.user.testing import ISSUER, PASSWORD, Users, as_user, log_in, new_user, refresh

pytest_plugins = ("tools.postgres.testing", "services.user.testing", "chassis.testing")
DATABASE = "user"


@pytest.fixture
async def user(users: Users) -> user_pb2.User:
    return await users.CreateUser(new_user())


def execute(url: str, query: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


async def refuse(users: Users, refresh_token: str) -> None:
    """Check that a refresh token is refused."""
    refused = await refusal(refresh(users, refresh_token))
    assert refused.code == grpc.StatusCode.UNAUTHENTICATED
    assert refused.reason == "INVALID_REFRESH_TOKEN"


async def test_the_published_keys_verify_the_access_token_of_a_login(
    users: Users, user: user_pb2.User
) -> None:
    response = await log_in(users)
    document = await users.GetJwks(user_pb2.GetJwksRequest())
    assert document.content_type == "application/jwk-set+json"
    keys = jwt.PyJWKSet.from_json(document.data.decode())
    header = jwt.get_unverified_header(response.access_token)
    claims = jwt.decode(
        response.access_token, keys[header["kid"]], algorithms=["ES256"], audience="bazaar"
    )
    assert header["typ"] == "at+jwt"
    assert (claims["sub"], claims["role"]) == (user.user_id, "customer")
    assert claims["exp"] == response.expire_time.seconds
    assert claims["exp"] - claims["iat"] == 600


async def test_the_published_keys_have_no_private_part(users: Users, user: user_pb2.User) -> None:
    document = await users.GetJwks(user_pb2.GetJwksRequest())
    (key,) = jwt.PyJWKSet.from_json(document.data.decode()).keys
    assert b'"d"' not in document.data
    with pytest.raises(AttributeError):
        key.key.private_numbers()


async def test_login_accepts_the_address_in_another_case(users: Users, user: user_pb2.User) -> None:
    assert (await log_in(users, "ADA@EXAMPLE.com")).access_token


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.com", "wrong horse"),
        ("ada@example.com", ""),
        ("nobody@example.com", PASSWORD),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("ada@example.com\x00", PASSWORD),
    ],
)
async def test_login_refuses_all_wrong_credentials_alike(
    users: Users, user: user_pb2.User, email: str, password: str
) -> None:
    refused = await refusal(log_in(users, email, password))
    assert refused.code == grpc.StatusCode.UNAUTHENTICATED
    assert refused.reason == "INVALID_CREDENTIALS"
    assert refused.message.startswith("The e-mail address or the password is wrong")
    assert refused.metadata == {}


async def test_login_takes_as_long_for_an_unknown_address_as_for_a_wrong_password(
    users: Users, user: user_pb2.User, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    verify = argon2.PasswordHasher.verify

    def record_and_verify(self: argon2.PasswordHasher, password_hash: str, password: str) -> bool:
        costs.append(argon2.extract_parameters(password_hash))
        return verify(self, password_hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", record_and_verify)
    wrong = await refusal(log_in(users, "ada@example.com", "wrong horse"))
    unknown = await refusal(log_in(users, "nobody@example.com", "wrong horse"))
    assert wrong == unknown
    assert costs == [costs[0]] * 2


async def test_login_hashes_the_password_again_if_the_parameters_have_changed(
    users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    outdated = argon2.PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    with psycopg.connect(clean_database_url) as connection:
        connection.execute("UPDATE users SET password_hash = %s", [outdated])
    await log_in(users)
    ((found,),) = execute(clean_database_url, "SELECT password_hash FROM users")
    assert str(found).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await log_in(users)


async def test_only_digests_of_tokens_are_stored(
    users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    response = await log_in(users)
    stored = execute(clean_database_url, "SELECT refresh_tokens::text FROM refresh_tokens")
    assert len(stored) == 1
    assert response.refresh_token not in str(stored)
    assert response.refresh_token.encode().hex() not in str(stored)


async def test_a_refresh_token_is_exchanged_for_new_tokens(
    users: Users, user: user_pb2.User
) -> None:
    first = await log_in(users)
    second = await refresh(users, first.refresh_token)
    third = await refresh(users, second.refresh_token)
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert third.session_expire_time == first.session_expire_time
    claims = [
        jwt.decode(each.access_token, options={"verify_signature": False})
        for each in (first, second, third)
    ]
    assert len({each["sid"] for each in claims}) == 1
    assert len({each["jti"] for each in claims}) == 3


async def test_a_refresh_token_that_is_used_again_ends_its_session(
    users: Users, user: user_pb2.User, events: Events
) -> None:
    first = await log_in(users)
    other = await log_in(users)
    second = await refresh(users, first.refresh_token)
    await refuse(users, first.refresh_token)
    await refuse(users, second.refresh_token)
    assert [event["event"] for event in events].count("refresh_token_reused") == 1
    await refresh(users, other.refresh_token)


async def test_of_100_concurrent_uses_of_a_refresh_token_one_succeeds(
    users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    first = await log_in(users)
    results = await asyncio.gather(
        *(refresh(users, first.refresh_token) for _ in range(100)), return_exceptions=True
    )
    succeeded = [each for each in results if isinstance(each, user_pb2.SessionTokens)]
    codes = {each.code() for each in results if isinstance(each, grpc.aio.AioRpcError)}
    assert len(succeeded) == 1
    assert codes == {grpc.StatusCode.UNAUTHENTICATED}
    # The 99 others used it again: the session has ended.
    await refuse(users, succeeded[0].refresh_token)
    assert execute(clean_database_url, "SELECT count(*) FROM refresh_tokens") == [(2,)]


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "\x00"])
async def test_an_unknown_refresh_token_is_refused(
    users: Users, user: user_pb2.User, token: str
) -> None:
    await refuse(users, token)


async def test_an_access_token_is_no_refresh_token(users: Users, user: user_pb2.User) -> None:
    response = await log_in(users)
    refused = await refusal(refresh(users, response.access_token))
    assert refused.code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT}


async def test_an_expired_session_is_not_refreshed(
    users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    response = await log_in(users)
    execute(
        clean_database_url,
        "UPDATE sessions SET create_time = now() - interval '30 days', expire_time = now()",
    )
    await refuse(users, response.refresh_token)


async def test_logout_ends_one_session(users: Users, user: user_pb2.User) -> None:
    first, second = await log_in(users), await log_in(users)
    request = user_pb2.LogoutRequest(refresh_token=first.refresh_token)
    await users.Logout(request)
    await users.Logout(request)
    await refuse(users, first.refresh_token)
    await refresh(users, second.refresh_token)


async def test_logout_of_all_sessions_ends_those_of_the_user_only(
    users: Users, user: user_pb2.User
) -> None:
    first, second = await log_in(users), await log_in(users)
    await users.CreateUser(new_user("other@example.com"))
    others = await log_in(users, "other@example.com")
    await users.Logout(user_pb2.LogoutRequest(refresh_token=first.refresh_token, all_sessions=True))
    await refuse(users, first.refresh_token)
    await refuse(users, second.refresh_token)
    await refresh(users, others.refresh_token)


async def test_logout_with_a_used_token_ends_its_own_session_only(
    users: Users, user: user_pb2.User
) -> None:
    first, second = await log_in(users), await log_in(users)
    following = await refresh(users, first.refresh_token)
    await users.Logout(user_pb2.LogoutRequest(refresh_token=first.refresh_token, all_sessions=True))
    await refuse(users, following.refresh_token)
    await refresh(users, second.refresh_token)


async def test_logout_with_an_unknown_token_succeeds(users: Users) -> None:
    await users.Logout(user_pb2.LogoutRequest(refresh_token="unknown", all_sessions=True))


async def test_deleting_a_user_ends_the_sessions(
    users: Users, user: user_pb2.User, clean_database_url: str
) -> None:
    response = await log_in(users)
    await users.DeleteUser(user_pb2.DeleteUserRequest(user_id=user.user_id))
    await refuse(users, response.refresh_token)
    query: LiteralString = "SELECT user_id, revoke_time IS NULL FROM sessions"
    assert execute(clean_database_url, query) == [(None, False)]


async def test_a_new_role_is_in_the_token_of_the_next_login(
    users: Users, user: user_pb2.User
) -> None:
    before = await log_in(users)
    request = user_pb2.SetRoleRequest(user_id=user.user_id, role=user_pb2.ROLE_STAFF)
    assert (await users.SetRole(request)).role == user_pb2.ROLE_STAFF
    await refuse(users, before.refresh_token)
    after = await log_in(users)
    claims = jwt.decode(after.access_token, options={"verify_signature": False})
    assert claims["role"] == "staff"
    # Setting the same role again changes nothing.
    await users.SetRole(request)
    await refresh(users, after.refresh_token)


@pytest.mark.parametrize("role", [user_pb2.ROLE_UNSPECIFIED, 4])
async def test_set_role_refuses_a_role_that_does_not_exist(
    users: Users, user: user_pb2.User, role: "user_pb2.Role.ValueType"
) -> None:
    request = user_pb2.SetRoleRequest(user_id=user.user_id, role=role)
    assert (await refusal(users.SetRole(request))).fields == ["role"]


async def test_a_client_cannot_choose_the_role_or_verify_an_address_by_itself(
    users: Users, user: user_pb2.User
) -> None:
    wanted = user_pb2.User(role=user_pb2.ROLE_ADMIN, email_verified=True, display_name="Mallory")
    request = user_pb2.UpdateUserRequest(user_id=user.user_id, user=wanted)
    updated = await users.UpdateUser(request)
    assert (updated.role, updated.email_verified) == (user_pb2.ROLE_CUSTOMER, False)
    for path in ("role", "email_verified"):
        request.update_mask.paths[:] = [path]
        assert (await refusal(users.UpdateUser(request))).reason == "INVALID_UPDATE_MASK"


async def test_changing_the_password_ends_the_other_sessions(
    users: Users, user: user_pb2.User, channel: grpc.aio.Channel
) -> None:
    first, own = await log_in(users), await log_in(users)
    claims = jwt.decode(own.access_token, options={"verify_signature": False})
    await as_user(channel, user.user_id, session_id=uuid.UUID(claims["sid"])).ChangePassword(
        user_pb2.ChangePasswordRequest(
            user_id=user.user_id, current_password=PASSWORD, new_password="battery staple"
        )
    )
    await refuse(users, first.refresh_token)
    await refresh(users, own.refresh_token)
    refused = await refusal(log_in(users))
    assert refused.reason == "INVALID_CREDENTIALS"
    await log_in(users, password="battery staple")


async def test_a_call_with_an_expired_access_token_leaves_the_refresh_token_unused(
    users: Users, user: user_pb2.User, channel: grpc.aio.Channel
) -> None:
    begun = await log_in(users)
    expired = ISSUER.token(user.user_id, Role.CUSTOMER, age_seconds=3_600)
    refused = await refusal(
        refresh(user_pb2_grpc.UserServiceStub(authorized(channel, expired)), begun.refresh_token)
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
    await refresh(users, begun.refresh_token)


async def test_sessions_that_ended_long_ago_are_deleted_with_their_tokens(
    users: Users, user: user_pb2.User, database: Database, clean_database_url: str
) -> None:
    for _ in range(5):
        await log_in(users)
    execute(
        clean_database_url,
        "WITH numbered AS (SELECT session_id, row_number() OVER () AS number FROM sessions)"
        " UPDATE sessions SET create_time = now() - interval '40 days',"
        " expire_time = now() + CASE number WHEN 1 THEN interval '-2 days'"
        "                       WHEN 2 THEN interval '-1 hour' ELSE interval '1 day' END,"
        " revoke_time = now() - CASE number WHEN 3 THEN interval '2 days'"
        "                       WHEN 4 THEN interval '1 hour' END"
        " FROM numbered WHERE sessions.session_id = numbered.session_id",
    )
    keys = SigningKeys(database, Cipher("x"), dt.timedelta(days=30), dt.timedelta(hours=1))
    await Sessions(database, Passwords(), keys, verification_required=False).sweep()
    assert execute(clean_database_url, "SELECT count(*) FROM sessions") == [(3,)]
    assert execute(clean_database_url, "SELECT count(*) FROM refresh_tokens") == [(3,)]


async def test_a_flood_of_logins_is_refused_at_once(
    users: Users, user: user_pb2.User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    passwords = Passwords()
    results = await asyncio.gather(
        *(passwords.verify(None, "x") for _ in range(40)), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, Exception)]
    assert [getattr(each, "reason", None) for each in refused] == ["TOO_MANY_PASSWORDS"] * 7
    assert not await passwords.verify(None, "x")
    passwords.close()


async def test_a_hash_that_nobody_waits_for_any_more_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr("services.user.passwords.WAITING_PER_CORE", 0)
    passwords = Passwords()
    hashing = asyncio.ensure_future(passwords.hash("x"))
    await asyncio.sleep(0)
    hashing.cancel()
    results = await asyncio.gather(hashing, passwords.hash("y"), return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert getattr(results[1], "reason", None) == "TOO_MANY_PASSWORDS"
    passwords.close()
