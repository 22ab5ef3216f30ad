"""An issuer of tokens for tests, which signs them by a key of its own, and forgers of them.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chassis import tokens
from chassis.caller import Role
from chassis.jwks import KeySet
from chassis.revocations import Revocations
from chassis.tokens import Verifier

KEY_ID = "test"
USER_ID = uuid.UUID(int=1)
SESSION_ID = uuid.UUID(int=2)

Claims = dict[str, Any]
Header = dict[str, Any]


class Issuer:
    """Issues tokens, and publishes the key that verifies them."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.revocations = Revocations(tokens.REVOCATION_SECONDS)
        self.revocations.known.set()

    async def publish(self) -> bytes:
        """Return the JSON Web Key Set."""
        return json.dumps({"keys": [make_jwk(self.key, KEY_ID)]}).encode()

    def verifier(self) -> Verifier:
        """Return a verifier of its tokens."""
        return Verifier(KeySet(self.publish), self.revocations)

    def token(
        self,
        user_id: uuid.UUID | str = USER_ID,
        role: Role = Role.ADMIN,
        *,
        session_id: uuid.UUID = SESSION_ID,
        age_seconds: float = 0,
    ) -> str:
        """Return a valid token, unless it is too old or from the future."""
        issue_time = time.time() - age_seconds
        user_id = uuid.UUID(str(user_id))
        return tokens.sign(self.key, KEY_ID, user_id, role, session_id, issue_time)


def make_jwk(key: ec.EllipticCurvePrivateKey, key_id: str) -> Mapping[str, Any]:
    """Return the public half of a key as a JSON Web Key."""
    jwk: Claims = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": key_id, "alg": "ES256", "use": "sig"}


class Forger:
    """Changes a valid token of an issuer in every way in which it becomes invalid."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._token = issuer.token()
        self._header: Header = jwt.get_unverified_header(self._token)
        self._claims: Claims = jwt.decode(self._token, options={"verify_signature": False})
        self._own_key = ec.generate_private_key(ec.SECP256R1())

    def forge(self) -> dict[str, str]:
        """Return forged tokens by what is wrong with them."""
        return {
            **self._with_claims(),
            **self._without_claims(),
            **self._with_header(),
            **self._by_other_keys(),
            **self._malformed(),
        }

    def _sign(self, header: Header, claims: Claims, key: object = None) -> str:
        """Sign with ES256, whatever the header says."""
        signing = key if isinstance(key, ec.EllipticCurvePrivateKey) else self._issuer.key
        start = f"{_encode(header)}.{_encode(claims)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(start.encode(), signing)
        return f"{start}.{_base64(signature)}"

    def _with_claims(self) -> dict[str, str]:
        now = int(time.time())
        changes: dict[str, Claims] = {
            "expired": {"iat": now - 700, "exp": now - 100},
            "expired long ago": {"iat": 0, "exp": 600},
            "issued in the future": {"iat": now + 1_000, "exp": now + 1_600},
            "not valid yet": {"nbf": now + 500},
            "another issuer": {"iss": "https://evil.example"},
            "an empty issuer": {"iss": ""},
            "a list of issuers": {"iss": [tokens.ISSUER]},
            "another audience": {"aud": "other"},
            "a list of audiences": {"aud": [tokens.AUDIENCE, "other"]},
            "an unknown role": {"role": "root"},
            "a list of roles": {"role": ["admin"]},
            "a subject that is no id": {"sub": "admin"},
            "a numeric subject": {"sub": 1},
            "a session that is no id": {"sid": "x"},
            "an expiry that is a text": {"exp": "tomorrow"},
            "an expiry that is infinite": {"exp": 1e400},
            "an expiry that is a fraction": {"exp": now + 600.5},
            "an expiry that is true": {"exp": True},
            "a time of issue that is a text": {"iat": "now"},
        }
        return {
            name: self._sign(self._header, {**self._claims, **change})
            for name, change in changes.items()
        }

    def _without_claims(self) -> dict[str, str]:
        return {
            f"no {name}": self._sign(
                self._header, {key: value for key, value in self._claims.items() if key != name}
            )
            for name in self._claims
        }

    def _with_header(self) -> dict[str, str]:
        own_jwk = make_jwk(self._own_key, KEY_ID)
        url = "https://evil.example/jwks.json"
        changes: dict[str, Header] = {
            "an ID token": {"typ": "JWT"},
            "no type": {"typ": None},
            "an unknown key": {"kid": "unknown"},
            "no key": {"kid": None},
            "a key by number": {"kid": 1},
            "a key by path": {"kid": "../../dev/null"},
            "a critical extension": {"crit": ["b64"], "b64": False},
            "algorithm ES384": {"alg": "ES384"},
            "no algorithm": {"alg": None},
        }
        forged = {
            name: self._sign(_without_none({**self._header, **change}), self._claims)
            for name, change in changes.items()
        }
        sources: dict[str, Header] = {
            "a jku header": {"jku": url},
            "an x5u header": {"x5u": url},
            "a jwk header": {"jwk": own_jwk},
        }
        for name, change in sources.items():
            forged[name] = self._sign({**self._header, **change}, self._claims, self._own_key)
        return forged

    def _by_other_keys(self) -> dict[str, str]:
        start = f"{_encode({**self._header, 'alg': 'HS256'})}.{_encode(self._claims)}"
        public = self._issuer.key.public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        der = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        rsa_key = rsa.generate_private_key(65537, 2048)
        return {
            "signed by another key": self._sign(self._header, self._claims, self._own_key),
            "HMAC with the public key as PEM": f"{start}.{_hmac(pem, start)}",
            "HMAC with the public key as DER": f"{start}.{_hmac(der, start)}",
            "HMAC with an empty secret": f"{start}.{_hmac(b'', start)}",
            "signed by RSA": jwt.encode(self._claims, rsa_key, "RS256", self._other_header()),
        }

    def _other_header(self) -> Header:
        return {"typ": "at+jwt", "kid": KEY_ID}

    def _malformed(self) -> dict[str, str]:
        header, claims, signature = self._token.split(".")
        admin = _encode({**self._claims, "sub": str(uuid.UUID(int=3))})
        unsigned = {
            f"algorithm {name}": f"{_encode({**self._header, 'alg': name})}.{claims}."
            for name in ("none", "None", "NONE", "nOnE")
        }
        return {
            **unsigned,
            "other claims under the signature": f"{header}.{admin}.{signature}",
            "no signature": f"{header}.{claims}.",
            "two parts": f"{header}.{claims}",
            "four parts": f"{self._token}.{signature}",
            "a signature of zeros": f"{header}.{claims}.{_base64(bytes(64))}",
            "a signature in DER": f"{header}.{claims}.{_base64(self._der_signature())}",
            "a cut signature": self._token[:-8],
            "a header that is a list": f"{_encode([])}.{claims}.{signature}",
            "a header that is nested deeply": f"{_base64(b'[' * 1_000)}.{claims}.{signature}",
            "a header that is no JSON": f"{_base64(b'{')}.{claims}.{signature}",
            "claims that are a list": self._sign_bytes(b"[]"),
            "claims that are no JSON": self._sign_bytes(b"\xff"),
            "too long": self._sign(self._header, {**self._claims, "x": "x" * 4_000}),
            "nothing": "",
            "an opaque token": "A" * 43,
            "dots": "..",
        }

    def _sign_bytes(self, claims: bytes) -> str:
        start = f"{_encode(self._header)}.{_base64(claims)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(start.encode(), self._issuer.key)
        return f"{start}.{_base64(signature)}"

    def _der_signature(self) -> bytes:
        start = self._token.rpartition(".")[0]
        signature = jwt.get_algorithm_by_name("ES256").sign(start.encode(), self._issuer.key)
        der: Callable[[bytes, ec.EllipticCurve], bytes] = jwt.utils.raw_to_der_signature
        return der(signature, self._issuer.key.curve)


def _without_none(header: Header) -> Header:
    return {name: value for name, value in header.items() if value is not None}


def _encode(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _hmac(key: bytes, text: str) -> str:
    return _base64(hmac.digest(key, text.encode(), hashlib.sha256))
