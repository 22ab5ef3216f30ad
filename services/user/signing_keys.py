"""The keys that sign access tokens, which rotate by themselves.

The keys are in the database, with the times from which each signs, so that all processes agree on
them. One key signs at a time; the next is published before it does, and the previous one until its
last token has expired.
"""

import asyncio
import datetime as dt
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chassis import errors, tokens
from chassis.database import Database
from chassis.supervision import BackgroundTask
from services.user import key_repository
from services.user.cipher import Cipher
from services.user.key_repository import StoredKey

MAX_REFRESH_SECONDS = 30.0
"""How often the keys are read at least; a fourth of the notice where that is less."""
RETENTION = dt.timedelta(seconds=tokens.LIFETIME_SECONDS + 60)
"""How long a key stays published after it signed: the lifetime of a token, and a minute for clocks
that differ and processes that have yet to read of the next key."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs from a time on."""

    key_id: str
    private_key: ec.EllipticCurvePrivateKey
    activate_time: dt.datetime


@dataclass(frozen=True, slots=True)
class _KeyRing:
    keys: Sequence[SigningKey]
    """In the order in which they sign."""
    document: bytes
    read_time: dt.datetime
    """When the keys were read, by the clock of the database."""
    read_at_seconds: float
    """The same, on the clock of `time.monotonic`."""

    def current(self) -> SigningKey:
        """Return the key that signs now, by the clock of the database."""
        age = dt.timedelta(seconds=time.monotonic() - self.read_at_seconds)
        now = self.read_time + age
        active = (key for key in reversed(self.keys) if key.activate_time <= now)
        # The clock of the database may have been set back behind the first key.
        return next(active, self.keys[0])


class SigningKeys:
    """Makes, rotates and publishes the keys of all processes of the service."""

    def __init__(
        self, database: Database, cipher: Cipher, lifetime: dt.timedelta, notice: dt.timedelta
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._lifetime = lifetime
        self._notice = notice
        self._ring: _KeyRing | None = None
        self._lock = asyncio.Lock()

    @property
    def interval_seconds(self) -> float:
        """How often the keys are to be read, so that none is missed before it signs."""
        return min(MAX_REFRESH_SECONDS, self._notice.total_seconds() / 4)

    def task(self) -> BackgroundTask:
        """Make the task that rotates the keys."""
        return BackgroundTask("signing_keys", self.refresh, self.interval_seconds)

    async def find_current(self) -> SigningKey:
        """Return the key that signs now.

        Raises:
            errors.Unavailable: no key was ever read, and the database is down.
        """
        return (await self._open_ring()).current()

    async def publish(self) -> bytes:
        """Return the public keys as a JSON Web Key Set (RFC 7517).

        Raises:
            errors.Unavailable: as for `find_current`.
        """
        return (await self._open_ring()).document

    async def refresh(self) -> None:
        """Make a key if one is due, and read all of them.

        Raises:
            errors.Unavailable: the database is down, or its keys cannot be decrypted.
        """
        self._ring = await self._read()

    async def _open_ring(self) -> _KeyRing:
        async with self._lock:
            if self._ring is None:
                self._ring = await self._read()
            return self._ring

    async def _read(self) -> _KeyRing:
        key_id = uuid.uuid4()
        made = ec.generate_private_key(ec.SECP256R1())
        async with self._database.transaction() as connection:
            await key_repository.rotate(
                connection,
                key_id,
                self._encrypt(key_id, made),
                lifetime=self._lifetime,
                notice=self._notice,
                retention=RETENTION,
            )
            stored = await key_repository.list_keys(connection)
        keys = [self._decrypt(each) for each in stored]
        return _KeyRing(keys, _to_document(keys), stored[0].read_time, time.monotonic())

    def _encrypt(self, key_id: uuid.UUID, key: ec.EllipticCurvePrivateKey) -> bytes:
        plain = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return self._cipher.encrypt(plain, key_id.bytes)

    def _decrypt(self, stored: StoredKey) -> SigningKey:
        try:
            plain = self._cipher.decrypt(stored.private_key, stored.key_id.bytes)
        except InvalidTag:
            message = "Access tokens cannot be signed at the moment."
            cause = ValueError("USERSERVICE_KEY_SECRET is not what signing_keys is encrypted with")
            raise errors.Unavailable("SIGNING_KEY_UNREADABLE", message) from cause
        key = serialization.load_der_private_key(plain, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"signing key {stored.key_id} is no elliptic curve key")
        return SigningKey(stored.key_id.hex, key, stored.activate_time)


def _to_document(keys: Sequence[SigningKey]) -> bytes:
    return json.dumps({"keys": [_to_jwk(key) for key in keys]}).encode()


def _to_jwk(key: SigningKey) -> dict[str, str]:
    public = key.private_key.public_key()
    jwk: dict[str, str] = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
    return {**jwk, "kid": key.key_id, "alg": "ES256", "use": "sig"}
