"""An identity provider for tests, whose users log in to the service.

A test module gets the fixtures with

    pytest_plugins = ("tools.postgres.testing", "services.user.issuer_testing")

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.database import Database
from chassis.service import Resources
from chassis.testing import Refusal, refusal, serving_service
from services.user.id_tokens import TrustedIssuer
from services.user.main import SERVICE
from services.user.settings import UserSettings
from services.user.testing import Users
from tools.postgres.testing import app_url

AUDIENCE = "our-client-id"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
Claims = dict[str, Any]


def make_jwk(algorithm: str) -> Claims:
    """Return the public key of an algorithm, whose name is its id."""
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
        """Respond to a request."""
        self.requests.append(request.path)
        await self.proceed.wait()
        if request.path == "/.well-known/openid-configuration":
            configuration = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            return web.json_response(configuration | self.configuration)
        return web.Response(text=self.keys, content_type="application/json")

    def token(self, algorithm: str = "ES256", header: Claims | None = None, **claims: Any) -> str:
        """Return a new ID token with claims that replace the usual ones; None leaves one out."""
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
    """Run an identity provider."""
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
    """Serve users, who may log in by the issuer, out of the module's database."""
    config = UserSettings(
        bazaar_environment="development",
        userservice_trusted_issuers=(TrustedIssuer(issuer.url, AUDIENCE),),
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
    """Return how a login is refused."""
    return await refusal(exchange(users, token))
