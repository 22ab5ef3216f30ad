"""ID tokens of outside identity providers (OpenID Connect Core 1.0, section 3.1.3.7).

An issuer is trusted by the settings only. Its keys are found by discovery (OpenID Connect Discovery
1.0), and fetched regularly, so that one that the issuer withdraws is not trusted for long.
"""

import datetime as dt
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from chassis import errors, settings
from chassis.jwks import REFRESH_SECONDS, KeySet
from chassis.supervision import BackgroundTask

ALGORITHMS = ("RS256", "ES256", "EdDSA")
MAX_TOKEN_CHARACTERS = 16_384
MAX_DOCUMENT_BYTES = 256 * 1024
"""How large the documents of an issuer may be."""
TIMEOUT_SECONDS = 2.0
"""How long each step of a request to an issuer may take; chassis.jwks limits the whole."""
LEEWAY_SECONDS = 60
"""How far the clock of an issuer may be off."""
MAX_AGE_SECONDS = 3_600
"""How long after its issue a token is accepted at most, whenever it expires."""

_REQUIRED = ("aud", "exp", "iat", "iss", "sub")


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer, and the audience that its tokens must have: our client id there."""

    url: str
    audience: str


@dataclass(frozen=True, slots=True)
class OutsideIdentity:
    """Whom an ID token names."""

    issuer: str
    subject: str
    """Unique at the issuer, and never another person's."""
    email: str
    """As the issuer has it; empty unless the issuer has verified it."""
    name: str
    token_digest: bytes
    """Of what is signed of the token: it tells one token from another."""
    token_expire_time: dt.datetime
    """When the token is not accepted any more."""


class IdTokens:
    """Verifies ID tokens of issuers; the requests to each are made by a client of its own."""

    def __init__(self, clients: Mapping[TrustedIssuer, httpx.AsyncClient]) -> None:
        self._issuers = {each.url: each for each in clients}
        self._keys = {
            each.url: KeySet(_Discovery(client, each.url).fetch) for each, client in clients.items()
        }

    def tasks(self) -> list[BackgroundTask]:
        """Make the tasks that fetch the keys of each issuer, so that none delays another."""
        return [
            BackgroundTask("fetch_issuer_keys", keys.refresh, REFRESH_SECONDS)
            for keys in self._keys.values()
        ]

    async def verify(self, token: str) -> OutsideIdentity:
        """Return whom a token names.

        Raises:
            errors.Unauthenticated: it is not a valid token of a trusted issuer for our audience.
            errors.Unavailable: the issuer does not respond, and its key is not known.
        """
        try:
            return await self._verify(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            message = "The ID token is not valid here."
            raise errors.Unauthenticated("INVALID_ID_TOKEN", message) from error

    async def _verify(self, token: str) -> OutsideIdentity:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise ValueError("too long")
        header = jwt.get_unverified_header(token)
        # What names another type is another kind of token, such as an access token (RFC 8725).
        if str(header.get("typ", "JWT")).upper() != "JWT":
            raise ValueError("not an ID token")
        unverified = jwt.decode(token, options={"verify_signature": False})
        issuer = self._issuers.get(_text(unverified.get("iss")))
        if issuer is None:
            raise ValueError("unknown issuer")
        key = await self._keys[issuer.url].find(_text(header.get("kid")))
        if key is None:
            raise ValueError("unknown key")
        claims = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            audience=issuer.audience,
            issuer=issuer.url,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
        )
        _check_party(claims, issuer.audience)
        if claims["iat"] < time.time() - MAX_AGE_SECONDS:
            raise ValueError("too old")
        return _to_identity(claims, _digest(token))


class _Discovery:
    """Finds and fetches the keys of one issuer."""

    def __init__(self, client: httpx.AsyncClient, issuer: str) -> None:
        self._client = client
        self._issuer = issuer

    async def fetch(self) -> bytes:
        """Return the JSON Web Key Set.

        Raises:
            ValueError: the issuer does not respond with what it should.
        """
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        configuration = json.loads(await self._get(url))
        if configuration.get("issuer") != self._issuer:
            raise ValueError("the configuration is of another issuer")
        url = check_url(configuration.get("jwks_uri"))
        if url.startswith("http:") and not self._issuer.startswith("http:"):
            raise ValueError("the keys of an https issuer must have an https URL")
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        content = b""
        try:
            async with self._client.stream("GET", url, timeout=TIMEOUT_SECONDS) as response:
                response.raise_for_status()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_DOCUMENT_BYTES:
                        raise ValueError("the document is too large")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ValueError(f"GET {url}: {type(error).__name__}") from error
        # A list or the like has no keys to look for.
        if not content.lstrip().startswith(b"{"):
            raise ValueError("the document is no JSON object")
        return content


def check_url(url: object) -> str:
    """Return a URL that an issuer may have: https, or http on this machine.

    Raises:
        ValueError: it is another one.
    """
    parts = urlsplit(_text(url))
    host = parts.hostname or ""
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and settings.is_loopback(host))
    if not is_safe or not host or parts.username or parts.fragment:
        raise ValueError("must be an https URL")
    return parts.geturl()


def _check_party(claims: dict[str, Any], audience: str) -> None:
    """Check that a token was issued to us, which `azp` says if there are several audiences."""
    has_others = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if has_others else audience) != audience:
        raise ValueError("issued to another party")


def _digest(token: str) -> bytes:
    """Return the SHA-256 digest of what is signed: of some signatures there are several forms."""
    return hashlib.sha256(token.rpartition(".")[0].encode()).digest()


def _to_identity(claims: dict[str, Any], token_digest: bytes) -> OutsideIdentity:
    subject = _text(claims["sub"])
    if not 1 <= len(subject) <= 255 or not subject.isascii() or not subject.isprintable():
        raise ValueError("not a subject")
    # Some issuers write the boolean as a string.
    is_verified = claims.get("email_verified") in {True, "true"}
    email = claims.get("email")
    name = claims.get("name")
    return OutsideIdentity(
        claims["iss"],
        subject,
        email if is_verified and isinstance(email, str) else "",
        name if isinstance(name, str) else "",
        token_digest,
        dt.datetime.fromtimestamp(
            min(int(claims["exp"]) + LEEWAY_SECONDS, claims["iat"] + MAX_AGE_SECONDS), dt.UTC
        ),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value
