"""ID tokens of an issuer, which serves its keys over HTTP."""

import asyncio
import base64
import json

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chassis import errors
from services.user import id_tokens
from services.user.id_tokens import IdTokens, TrustedIssuer, check_url
from services.user.issuer_testing import AUDIENCE, KEYS, Claims, Issuer, exchange, make_jwk, refuse
from services.user.testing import Users, log_in, new_user

pytest_plugins = ("tools.postgres.testing", "services.user.issuer_testing")
DATABASE = "user"


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
        verifier = IdTokens({TrustedIssuer(issuer.url, AUDIENCE): client})
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


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_key_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    short = rsa.generate_private_key(65537, 1024)
    monkeypatch.setitem(KEYS, "RS256", short)
    issuer.keys = json.dumps({"keys": [make_jwk("RS256")]})
    async with httpx.AsyncClient() as client:
        verifier = IdTokens({TrustedIssuer(issuer.url, AUDIENCE): client})
        with pytest.raises(errors.Unauthenticated):
            await verifier.verify(issuer.token("RS256"))


async def test_keys_of_an_https_issuer_are_not_fetched_over_http() -> None:
    requests = []
    url = "https://issuer.example"

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(str(request.url))
        return httpx.Response(200, json={"issuer": url, "jwks_uri": "http://127.0.0.1/keys"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        verifier = IdTokens({TrustedIssuer(url, AUDIENCE): client})
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
