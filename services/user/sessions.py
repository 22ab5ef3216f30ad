"""Sessions: login, refresh and logout.

A session is what RFC 9700 calls a family of refresh tokens: each token is used once, for the next
one, until the session expires or is ended.
"""

import datetime as dt
import time
import uuid
from dataclasses import dataclass

from chassis import errors, log, tokens
from chassis.database import Connection, Database
from services.user import (
    account_repository,
    mail_repository,
    opaque_tokens,
    outside_identities,
    session_repository,
)
from services.user.account_repository import Account
from services.user.id_tokens import OutsideIdentity
from services.user.mail import Template
from services.user.passwords import Passwords
from services.user.session_repository import Session
from services.user.signing_keys import SigningKey, SigningKeys

LIFETIME = dt.timedelta(days=30)
"""How long a session lasts, however often it is refreshed."""
RETENTION = dt.timedelta(days=1)
"""How long a session is kept after its end. It exceeds the lifetime of access tokens, by which time
all services have been told."""
SWEEP_SECONDS = 600.0
"""How often sessions that ended are deleted."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets for its credentials."""

    access_token: str
    refresh_token: str
    expire_time: dt.datetime
    """Of the access token."""
    session_expire_time: dt.datetime


class Sessions:
    """Begins, continues and ends the sessions of users."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        keys: SigningKeys,
        *,
        verification_required: bool,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._keys = keys
        self._verification_required = verification_required
        self._log = log.logger()

    async def log_in(self, email: str, password: str) -> Tokens:
        """Begin a session. An address that is no e-mail address at all is an unknown one.

        Raises:
            errors.Unauthenticated: address and password do not match, or changed meanwhile, or the
                address is to be verified first. It is the same error, because whoever registers a
                known address and then logs in would learn from another one that it was unknown.
            passwords.TooManyPasswords: too many passwords wait to be verified.
        """
        async with self._database.connection() as connection:
            found = await account_repository.find_account(connection, email)
        password_hash = None if found is None else found.password_hash
        matches = await self._passwords.verify(password_hash, password)
        if found is None or password_hash is None or not matches:
            raise _invalid_credentials()
        if self._verification_required and not found.email_verified:
            await self._send_verification(found)
            raise _invalid_credentials()
        if self._passwords.is_outdated(password_hash):
            password_hash = await self._rehash(found.user_id, password_hash, password)
        key = await self._keys.find_current()
        async with self._database.connection() as connection:
            return await _open(connection, key, found.user_id, password_hash)

    async def log_in_from_outside(self, identity: OutsideIdentity) -> Tokens:
        """Begin a session of the user of an outside identity, whose ID token is used then.

        Raises:
            errors.Unauthenticated: as for `outside_identities.find_or_make`.
            errors.PermissionDenied: as for `outside_identities.find_or_make`.
        """
        key = await self._keys.find_current()
        async with self._database.transaction() as connection:
            account = await outside_identities.find_or_make(connection, identity)
            return await _open(connection, key, account.user_id, account.password_hash)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token; end its session if the token was used before.

        Raises:
            errors.Unauthenticated: the token is unknown or used, or its session has ended.
        """
        key = await self._keys.find_current()
        used, token = opaque_tokens.digest(refresh_token), opaque_tokens.make()
        async with self._database.connection() as connection:
            session = await session_repository.exchange_token(
                connection, used, opaque_tokens.digest(token)
            )
            if session is not None:
                return _issue(key, session, token)
            for session_id in await session_repository.end_session_of_used_token(connection, used):
                self._log.warning("refresh_token_reused", session_id=str(session_id))
        message = "The session has ended. Log in again."
        raise errors.Unauthenticated("INVALID_REFRESH_TOKEN", message)

    async def log_out(self, refresh_token: str, *, all_sessions: bool) -> None:
        """End the session of a refresh token, or all of its user if the token is unused."""
        digest = opaque_tokens.digest(refresh_token)
        async with self._database.transaction() as connection:
            user_id = await session_repository.find_user(connection, digest)
            if all_sessions and user_id is not None:
                await session_repository.end_sessions_of_user(connection, user_id)
            else:
                await session_repository.end_session(connection, digest)

    async def sweep(self) -> None:
        """Delete sessions that ended long ago.

        Raises:
            errors.Unavailable: the database is down.
        """
        await session_repository.delete_ended(self._database, RETENTION)

    async def _send_verification(self, account: Account) -> None:
        async with self._database.connection() as connection:
            await mail_repository.add(
                connection, Template.VERIFY_EMAIL, account.email, account.user_id
            )

    async def _rehash(self, user_id: uuid.UUID, current: str, password: str) -> str:
        """Replace a hash that was made with other parameters, and return the one that is valid."""
        replacement = await self._passwords.hash(password)
        async with self._database.connection() as connection:
            replaced = await account_repository.rehash(connection, user_id, current, replacement)
        return replacement if replaced else current


async def _open(
    connection: Connection, key: SigningKey, user_id: uuid.UUID, password_hash: str | None
) -> Tokens:
    """Begin a session of a user who has proved to be that.

    Raises:
        errors.Unauthenticated: the password hash of the user is another one.
    """
    token = opaque_tokens.make()
    session = await session_repository.open_session(
        connection, user_id, password_hash, LIFETIME, opaque_tokens.digest(token)
    )
    if session is None:
        raise _invalid_credentials()
    return _issue(key, session, token)


def _issue(key: SigningKey, session: Session, refresh_token: str) -> Tokens:
    now = time.time()
    access_token = tokens.sign(
        key.private_key, key.key_id, session.user_id, session.role, session.session_id, now
    )
    expire_time = dt.datetime.fromtimestamp(int(now) + tokens.LIFETIME_SECONDS, dt.UTC)
    return Tokens(access_token, refresh_token, expire_time, session.expire_time)


def _invalid_credentials() -> errors.Unauthenticated:
    message = "The e-mail address or the password is wrong, or the address is not verified yet."
    return errors.Unauthenticated("INVALID_CREDENTIALS", message)
