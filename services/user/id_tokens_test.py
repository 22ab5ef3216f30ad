"""Logins by ID tokens of an issuer, which serves its keys over HTTP."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import jwt
import psycopg
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import errors
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import Refusal, refusal, serving_service, wait_for_blocked
from chassis.token_testing import USER_ID
from services.user import id_tokens
from services.user.account_repository import (
    insert_identity,
    insert_unless_taken,
    lock_identity,
)
from services.user.accounts import Accounts
from services.user.id_tokens import IdTokens, TrustedIssuer, check_url
from services.user.main import SERVICE
from services.user.passwords import Passwords
from services.user.settings import UserSettings
from services.user.testing import PASSWORD, Users, log_in, new_user, refresh
from tools.postgres.testing import app_url

pytest_plugins = ("tools.postgres.testing", "chassis.testing")
DATABASE = "user"
AUDIENCE = "our-client-id"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Claims = dict[str, Any]


def make_jwk(algorithm: str) -> Claims:
    public = KEYS[algorithm].public_key()
    jwk: Claims = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return {**jwk, "kid": algorithm, "alg": algorithm, "use": "sig"}


@dataclass
class Issuer:
    """An identity provider on a free port."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    configuration: Claims = field(default_factory=dict)
    keys: str = field(
        default_factory=lambda: json.dumps({"keys": [make_jwk(name) for name in KEYS]})
    )

    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    """The issuer does not respond unless it is set."""

    async def serve(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request.path)
        await self.proceed.wait()
        if request.path == "/.well-known/openid-configuration":
            configuration = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            return web.json_response(configuration | self.configuration)
        return web.Response(text=self.keys, content_type="application/json")

    def token(self, algorithm: str = "ES256", header: Claims | None = None, **claims: Any) -> str:
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "1234",
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid.uuid4()),
            "email": "ada@example.com",
            "email_verified": True,
            "name": "Ada Lovelace",
        }
        merged = {name: each for name, each in (usual | claims).items() if each is not None}
        return jwt.encode(merged, KEYS[algorithm], algorithm, {"kid": algorithm} | (header or {}))


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    served = Issuer()
    served.proceed.set()
    runner = web.ServerRunner(web.Server(served.serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    served.proceed.set()
    await runner.cleanup()


@pytest.fixture
async def users(clean_database_url: str, issuer: Issuer) -> AsyncIterator[Users]:
    config = UserSettings(
        bazaar_environment="development",
        userservice_trusted_issuers=(f"{issuer.url}={AUDIENCE}",),
    )
    resources = Resources(Database(app_url(clean_database_url)), config)
    async with resources.stack, serving_service(SERVICE, resources) as channel:
        yield user_pb2_grpc.UserServiceStub(channel)


async def exchange(users: Users, token: str) -> str:
    """Log in, and return the id of the user."""
    response = await users.LoginWithIdToken(user_pb2.LoginWithIdTokenRequest(id_token=token))
    claims = jwt.decode(response.access_token, options={"verify_signature": False})
    return str(claims["sub"])


async def refuse(users: Users, token: str) -> Refusal:
    return await refusal(exchange(users, token))


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


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another-client"},
        {"aud": None},
        {"aud": []},
        {"aud": [AUDIENCE, "another-client"]},
        {"aud": [AUDIENCE, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"exp": 1},
        {"exp": None},
        {"iat": 1},
        {"iat": None},
        {"iat": 2**33},
        {"iat": True},
        {"nbf": 2**33},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "\x00"},
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(
    users: Users, issuer: Issuer, claims: Claims
) -> None:
    refused = await refuse(users, issuer.token(**claims))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_ID_TOKEN")


async def test_a_token_for_several_audiences_names_us_as_its_party(
    users: Users, issuer: Issuer
) -> None:
    await exchange(users, issuer.token(aud=[AUDIENCE, "another-client"], azp=AUDIENCE))
    await exchange(users, issuer.token(aud=[AUDIENCE]))


async def test_a_token_that_is_not_signed_by_the_issuer_is_refused(
    users: Users, issuer: Issuer
) -> None:
    valid = issuer.token()
    header, claims, signature = valid.split(".")
    public = jwt.get_algorithm_by_name("ES256").to_jwk(KEYS["ES256"].public_key())
    forged = [
        "",
        "x",
        valid[:-8],
        f"{header}.{claims}.",
        f"{_encode({'alg': 'none', 'kid': 'ES256'})}.{claims}.",
        jwt.encode(_decode(claims), public * 2, "HS256", {"kid": "ES256"}),
        jwt.encode(_decode(claims), KEYS["EdDSA"], "EdDSA", {"kid": "ES256"}),
        jwt.encode(
            _decode(claims), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "ES256"}
        ),
        jwt.encode(_decode(claims), KEYS["RS256"], "RS512", {"kid": "RS256"}),
        issuer.token(header={"kid": "unknown"}),
        f"{_encode({'alg': 'ES256', 'kid': 7})}.{claims}.{signature}",
        issuer.token(header={"typ": "at+jwt"}),
        issuer.token(header={"typ": "logout+jwt"}),
        f"{_encode([])}.{claims}.{signature}",
        f"{header}.{_encode([])}.{signature}",
    ]
    reasons = [(await refuse(users, token)).reason for token in forged]
    assert reasons == ["INVALID_ID_TOKEN"] * len(forged)


async def test_our_own_access_token_is_no_id_token(users: Users, issuer: Issuer) -> None:
    await users.CreateUser(new_user())
    issued = await log_in(users)
    assert (await refuse(users, issued.access_token)).reason == "INVALID_ID_TOKEN"


async def test_a_key_that_the_issuer_has_withdrawn_is_not_trusted(issuer: Issuer) -> None:
    async with httpx.AsyncClient() as client:
        verifier = IdTokens([TrustedIssuer(issuer.url, AUDIENCE)], client)
        token = issuer.token()
        assert (await verifier.verify(token)).subject == "1234"
        issuer.keys = json.dumps({"keys": [make_jwk("RS256")]})
        (task,) = verifier.tasks()
        task.start()
        async with asyncio.timeout(10):
            with pytest.raises(errors.Unauthenticated):  # noqa: PT012 - It is, after some time.
                while True:
                    await verifier.verify(token)
                    await asyncio.sleep(0)
        await task.stop()


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_is_used_once(users: Users, issuer: Issuer, algorithm: str) -> None:
    token = issuer.token(algorithm)
    await exchange(users, token)
    refused = await refuse(users, token)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_ID_TOKEN")


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


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_key_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    short = rsa.generate_private_key(65537, 1024)
    monkeypatch.setitem(KEYS, "RS256", short)
    issuer.keys = json.dumps({"keys": [make_jwk("RS256")]})
    async with httpx.AsyncClient() as client:
        verifier = IdTokens([TrustedIssuer(issuer.url, AUDIENCE)], client)
        with pytest.raises(errors.Unauthenticated):
            await verifier.verify(issuer.token("RS256"))


async def test_keys_of_an_https_issuer_are_not_fetched_over_http() -> None:
    requests = []
    url = "https://issuer.example"

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(str(request.url))
        return httpx.Response(200, json={"issuer": url, "jwks_uri": "http://127.0.0.1/keys"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        verifier = IdTokens([TrustedIssuer(url, AUDIENCE)], client)
        with pytest.raises(errors.Unavailable):
            await verifier.verify(Issuer(url).token())
    assert requests == [f"{url}/.well-known/openid-configuration"]


async def test_unknown_issuers_are_not_asked(users: Users, issuer: Issuer) -> None:
    await refuse(users, issuer.token(iss=f"{issuer.url}/other"))
    assert issuer.requests == []


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user@keys.example/keys"},
        {"x": "x" * id_tokens.MAX_DOCUMENT_BYTES},
    ],
)
async def test_an_issuer_whose_configuration_is_wrong_is_unavailable(
    users: Users, issuer: Issuer, configuration: Claims
) -> None:
    issuer.configuration = configuration
    refused = await refuse(users, issuer.token())
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
    # Clients repeat a call that was unavailable.
    assert set(issuer.requests) == {"/.well-known/openid-configuration"}


@pytest.mark.parametrize("keys", ["", "{}", "[]", "x" * (id_tokens.MAX_DOCUMENT_BYTES + 1)])
async def test_an_issuer_whose_keys_are_none_is_unavailable(
    users: Users, issuer: Issuer, keys: str
) -> None:
    issuer.keys = keys
    assert (await refuse(users, issuer.token())).code == grpc.StatusCode.UNAVAILABLE


async def test_an_issuer_that_does_not_respond_is_unavailable_after_a_time(
    users: Users, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_tokens, "TIMEOUT_SECONDS", 0.2)
    issuer.proceed.clear()
    async with asyncio.timeout(10):
        assert (await refuse(users, issuer.token())).reason == "KEYS_UNAVAILABLE"


async def test_keys_are_fetched_from_safe_urls_only(users: Users, issuer: Issuer) -> None:
    issuer.configuration = {"jwks_uri": f"{issuer.url.replace('//', '//user@')}/keys"}
    assert (await refuse(users, issuer.token())).reason == "KEYS_UNAVAILABLE"
    assert "/keys" not in issuer.requests


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


@pytest.mark.parametrize(
    "url", ["http://issuer.example", "ftp://x", "https://", "", "https://a@b", "https://a#b", 7]
)
def test_issuers_have_https_urls(url: object) -> None:
    with pytest.raises(ValueError, match=r"must be an https URL|not a string"):
        check_url(url)


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _decode(claims: str) -> Claims:
    decoded: Claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return decoded
