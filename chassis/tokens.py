"""Access tokens: JSON Web Tokens (RFC 7519) in the profile of RFC 9068, signed with ES256.

The user service signs them; every service verifies them by itself.
"""

import hashlib
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from chassis import errors
from chassis.caller import Caller, Role
from chassis.jwks import KeySet
from chassis.revocations import Revocations

LIFETIME_SECONDS = 600
REVOCATION_SECONDS = LIFETIME_SECONDS + 60
"""How long the end of a session is remembered: until its last token has expired on every clock."""
ISSUER = "bazaar"
AUDIENCE = "bazaar"

_ALGORITHM = "ES256"
_TYPE = "at+jwt"
_REQUIRED = ("aud", "exp", "iat", "iss", "jti", "role", "sid", "sub")
_LEEWAY_SECONDS = 5
"""How far the clocks of two machines may be apart."""
_MAX_LENGTH = 2_048
_MAX_CACHED = 10_000


def sign(
    key: EllipticCurvePrivateKey,
    key_id: str,
    user_id: uuid.UUID,
    role: Role,
    session_id: uuid.UUID,
    issue_time: float,
) -> str:
    """Return a token that is valid from `issue_time`, in seconds since the epoch."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "role": role.value,
        "sid": str(session_id),
        "jti": uuid.uuid4().hex,
        "iat": int(issue_time),
        "exp": int(issue_time) + LIFETIME_SECONDS,
    }
    return jwt.encode(claims, key, _ALGORITHM, {"typ": _TYPE, "kid": key_id})


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    key_id: str


class Verifier:
    """Verifies tokens by the keys of their issuer, and remembers those that were valid.

    Whatever the header of a token says about keys and algorithms, but for the id of a known key, is
    not followed (RFC 8725).
    """

    def __init__(self, keys: KeySet, revocations: Revocations) -> None:
        self._keys = keys
        self.revocations = revocations
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        """The tokens that were verified last, by their SHA-256 digests."""

    async def verify(self, token: str) -> Caller:
        """Return the caller that a token names.

        Raises:
            errors.Unauthenticated: it is not a token of the issuer (reason TOKEN_INVALID), it has
                expired (TOKEN_EXPIRED), or its session has ended (TOKEN_REVOKED).
            errors.Unavailable: it is signed by a key that could not be looked up, or which sessions
                have ended does not become known.
        """
        await self.revocations.wait_until_known()
        digest = hashlib.sha256(token.encode()).digest()
        found = self._verified.get(digest)
        if found is None or not self._keys.has(found.key_id):
            found = await self._verify(token)
            self._remember(digest, found)
        self.check(found.caller)
        return found.caller

    def check(self, caller: Caller) -> None:
        """Check that a caller's token and session have not ended.

        Raises:
            errors.Unauthenticated: they have (reason TOKEN_EXPIRED or TOKEN_REVOKED).
        """
        if caller.expire_time + _LEEWAY_SECONDS <= time.time():
            raise expired()
        if self.revocations.is_revoked(caller.session_id):
            raise errors.Unauthenticated("TOKEN_REVOKED", "The session of this token has ended.")

    async def _verify(self, token: str) -> _Verified:
        try:
            if len(token) > _MAX_LENGTH:
                raise jwt.InvalidTokenError("too long")
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            if header.get("typ") != _TYPE or not isinstance(key_id, str):
                raise jwt.InvalidTokenError("not an access token")
            key = await self._keys.find(key_id)
            if key is None:
                raise jwt.InvalidTokenError("unknown key")
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(_REQUIRED), "strict_aud": True},
            )
            return _Verified(_to_caller(claims), key_id)
        except jwt.ExpiredSignatureError as error:
            raise expired() from error
        except (jwt.PyJWTError, ValueError) as error:
            message = "The access token is not valid. Log in again."
            raise errors.Unauthenticated("TOKEN_INVALID", message) from error

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._verified[digest] = verified
        self._verified.move_to_end(digest)
        if len(self._verified) > _MAX_CACHED:
            self._verified.popitem(last=False)


def _to_caller(claims: dict[str, object]) -> Caller:
    """Raise ValueError if a claim is not what `sign` writes."""
    expire_time = claims["exp"]
    if not isinstance(expire_time, int):
        raise ValueError("exp is no integer")
    return Caller(
        uuid.UUID(str(claims["sub"])),
        Role(str(claims["role"])),
        uuid.UUID(str(claims["sid"])),
        float(expire_time),
    )


def expired() -> errors.Unauthenticated:
    """Return the error for a token that has expired."""
    message = "The access token has expired. Refresh it, or log in again."
    return errors.Unauthenticated("TOKEN_EXPIRED", message)
