"""Accounts: registration, verified addresses, passwords and roles.

What a stranger may ask for takes the same steps whether an e-mail address is known or not: which
mail is sent, if any, is decided when it is sent.
"""

import uuid
from collections.abc import Callable

from chassis import audit, errors
from chassis.caller import Caller, Role
from chassis.database import Connection, Database
from chassis.idempotency import RepeatableRequest
from services.user import (
    account_repository,
    domain,
    mail_repository,
    messages,
    opaque_tokens,
    repository,
    session_repository,
)
from services.user.domain import Profile, User
from services.user.mail import Purpose, Template
from services.user.passwords import Passwords


class Accounts:
    """Makes and changes accounts."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def register(self, profile: Profile, password: str) -> None:
        """Make a customer, unless the e-mail address is taken, and send a mail to it.

        Raises:
            passwords.TooManyPasswords: too many passwords wait to be hashed.
        """
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            user_id = await account_repository.insert_unless_taken(
                connection, profile.email, profile.display_name, password_hash
            )
            template = Template.ALREADY_REGISTERED if user_id is None else Template.VERIFY_EMAIL
            await mail_repository.add(connection, template, profile.email, user_id)

    async def create(
        self, profile: Profile, password: str, request: RepeatableRequest | None = None
    ) -> User:
        """Make a customer, and send a mail to verify the e-mail address.

        A repeated request gets the customer whom it has made.

        Raises:
            errors.AlreadyExists: the e-mail address is taken.
            errors.KeyReused: another request had the idempotency key.
            passwords.TooManyPasswords: too many passwords wait to be hashed.
        """
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            user = await repository.insert_user(connection, profile, password_hash, request)
            if user is None:
                return await repository.get_created_user(connection, request)
            await mail_repository.add(
                connection, Template.VERIFY_EMAIL, profile.email, user.user_id
            )
            await audit.record(connection, [messages.to_change(None, user)])
        return user

    async def verify_email(self, token: str) -> None:
        """Use the token of a mail to verify its address, and make it that of its user.

        Raises:
            errors.InvalidArgument: the token is not valid.
            errors.AlreadyExists: another user has the address meanwhile.
        """
        async with self._database.transaction() as connection:
            user, email = await _use_token(connection, token, Purpose.VERIFY_EMAIL)
            await account_repository.set_verified_email(connection, user.user_id, email)
            if email != user.profile.email:
                await mail_repository.cancel(connection, user.user_id)
                await mail_repository.add(connection, Template.EMAIL_CHANGED, user.profile.email)
            await _record(connection, user, actor=_as_caller(user))

    async def request_password_reset(self, email: str) -> None:
        """Send a mail with a token to the user with an e-mail address, if there is one."""
        async with self._database.connection() as connection:
            await mail_repository.add(connection, Template.RESET_PASSWORD, email)

    async def reset_password(self, token: str, password: str) -> None:
        """Use the token of a mail to set a password; end all sessions of the user.

        Raises:
            errors.InvalidArgument: the token is not valid.
            passwords.TooManyPasswords: too many passwords wait to be hashed.
        """
        digest = opaque_tokens.digest(token)
        async with self._database.connection() as connection:
            # A stranger who has no token does not have us hash passwords.
            if not await mail_repository.find_token(connection, digest, Purpose.RESET_PASSWORD):
                raise _invalid_token()
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            user, email = await _use_token(connection, token, Purpose.RESET_PASSWORD)
            if email != user.profile.email:
                raise _invalid_token()
            await account_repository.set_password_hash(connection, user.user_id, password_hash)
            await account_repository.set_verified_email(connection, user.user_id, email)
            await mail_repository.cancel(connection, user.user_id)
            await session_repository.end_sessions_of_user(connection, user.user_id)
            await _record(connection, user, actor=_as_caller(user))

    async def change_password(
        self, user_id: uuid.UUID, current_password: str, password: str, *, kept: uuid.UUID
    ) -> None:
        """Replace a password; end the sessions of the user, but the one that is kept.

        Passwords are verified and hashed outside of a transaction.

        Raises:
            errors.NotFound: the user does not exist.
            errors.PermissionDenied: the current password is another one.
            errors.Aborted: the password was changed meanwhile.
            passwords.TooManyPasswords: too many passwords wait to be hashed.
        """
        current = await self._check_password(user_id, current_password)
        replacement = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            user = await _lock_unchanged(connection, user_id, current)
            await account_repository.set_password_hash(connection, user_id, replacement)
            await mail_repository.cancel(connection, user_id)
            await session_repository.end_sessions_of_user(connection, user_id, kept=kept)
            await _record(connection, user)

    async def change_email(self, user_id: uuid.UUID, email: str, password: str) -> None:
        """Send a mail to a new address, by which it becomes that of the user.

        The password is required because whoever has the mailbox can have a new password: without
        it, an access token that was stolen would be worth the account.

        Raises:
            errors.NotFound: the user does not exist.
            errors.PermissionDenied: the password is another one.
            errors.Aborted: the password was changed meanwhile.
            passwords.TooManyPasswords: too many passwords wait to be verified.
        """
        current = await self._check_password(user_id, password)
        async with self._database.transaction() as connection:
            user = await _lock_unchanged(connection, user_id, current)
            await mail_repository.add(connection, Template.VERIFY_EMAIL, email, user_id)
            await _record(connection, user)

    async def update(
        self, caller: Caller, user_id: uuid.UUID, etag: str, change: Callable[[User], Profile]
    ) -> User:
        """Change the profile of a user, whose row is locked, and write it only if it differs.

        `change` returns the new profile of the user that it is called with.

        Raises:
            errors.NotFound: the user does not exist for the caller.
            errors.PermissionDenied: the caller may not change the user, or not the own e-mail
                address in this way.
            errors.Aborted: the user has changed since the etag, if it is not empty.
            errors.AlreadyExists: the e-mail address is taken.
        """
        async with self._database.transaction() as connection:
            user = await _lock_changeable(connection, caller, user_id)
            domain.check_etag(user, etag)
            profile = change(user)
            if profile.email != user.profile.email:
                if user_id == caller.user_id:
                    raise _password_required()
                await _retire_email(connection, user, profile.email)
            if profile == user.profile:
                return user
            updated = await repository.update_profile(connection, user_id, profile)
            await audit.record(connection, [messages.to_change(user, updated)])
        return updated

    async def delete(self, caller: Caller, user_id: uuid.UUID) -> None:
        """Delete a user, and end all sessions of the user.

        Raises:
            errors.NotFound: the user does not exist for the caller.
            errors.PermissionDenied: the caller may not change the user.
            errors.FailedPrecondition: the user is the only admin.
        """
        async with self._database.transaction() as connection:
            user = await _lock_changeable(connection, caller, user_id)
            await _check_admin_remains(connection, user)
            await session_repository.end_sessions_of_user(connection, user_id)
            await repository.delete_user(connection, user_id)
            await audit.record(connection, [messages.to_change(user, None)])

    async def set_role(self, user_id: uuid.UUID, role: Role) -> User:
        """Set the role of a user; end the sessions of the user if it was another one.

        Raises:
            errors.NotFound: the user does not exist.
            errors.FailedPrecondition: the user is the only admin.
        """
        async with self._database.transaction() as connection:
            user = await repository.get_user(connection, user_id, lock=True)
            if user.role is role:
                return user
            await _check_admin_remains(connection, user)
            await account_repository.set_role(connection, user_id, role)
            await session_repository.end_sessions_of_user(connection, user_id)
            changed = await repository.get_user(connection, user_id)
            await audit.record(connection, [messages.to_change(user, changed)])
        return changed

    async def sweep(self) -> None:
        """Delete tokens of mails, and used ID tokens, that have expired.

        Raises:
            errors.Unavailable: the database is down.
        """
        await mail_repository.delete_expired_tokens(self._database)
        await account_repository.delete_expired_id_tokens(self._database)

    async def _check_password(self, user_id: uuid.UUID, password: str) -> str:
        """Check the password of a user, and return its hash."""
        async with self._database.connection() as connection:
            current = await account_repository.get_password_hash(connection, user_id)
        if current is None or not await self._passwords.verify(current, password):
            raise errors.PermissionDenied("WRONG_PASSWORD", "The current password is wrong.")
        return current


async def _lock_unchanged(connection: Connection, user_id: uuid.UUID, password_hash: str) -> User:
    """Lock a user who still has the password that was checked."""
    user = await repository.get_user(connection, user_id, lock=True)
    if await account_repository.get_password_hash(connection, user_id) != password_hash:
        message = "The password was changed meanwhile. Try again."
        raise errors.Aborted("PASSWORD_CHANGED", message)
    return user


async def _lock_changeable(connection: Connection, caller: Caller, user_id: uuid.UUID) -> User:
    """Lock a user whom the caller may change."""
    domain.check_exists_for(caller, user_id)
    user = await repository.get_user(connection, user_id, lock=True)
    domain.check_may_change(caller, user)
    return user


async def _check_admin_remains(connection: Connection, user: User) -> None:
    """Check that there is an admin besides a user who will not be one any more."""
    if user.role is Role.ADMIN and not await account_repository.has_other_admin(
        connection, user.user_id
    ):
        message = "The only admin cannot be deleted or get another role. Appoint another one first."
        raise errors.FailedPrecondition("LAST_ADMIN", message)


async def _retire_email(connection: Connection, user: User, email: str) -> None:
    """Take the e-mail address of a user, whose row is locked, out of use for one that staff give.

    Whoever has the old one may not be the user: it proves nothing any more, and is sent a mail.
    """
    await mail_repository.cancel(connection, user.user_id)
    await session_repository.end_sessions_of_user(connection, user.user_id)
    await mail_repository.add(connection, Template.EMAIL_CHANGED, user.profile.email)
    await mail_repository.add(connection, Template.VERIFY_EMAIL, email, user.user_id)


async def _record(connection: Connection, before: User, *, actor: Caller | None = None) -> None:
    """Record what users do with their own accounts, if they are staff."""
    after = await repository.get_user(connection, before.user_id)
    await audit.record(connection, [messages.to_change(before, after)], actor=actor)


def _as_caller(user: User) -> Caller:
    """Return a user as the caller whom the token of a mail proves, without a session."""
    return Caller(user.user_id, user.role, session_id=uuid.UUID(int=0), expire_time=0.0)


async def _use_token(connection: Connection, token: str, purpose: Purpose) -> tuple[User, str]:
    """Use a token; return its user, whose row is locked, and the address it was sent to.

    The row of a user is locked before those of the user's tokens, here as where a user is deleted.
    """
    digest = opaque_tokens.digest(token)
    found = await mail_repository.find_token(connection, digest, purpose)
    users = found and await repository.get_users(connection, [found[0]], lock=True)
    if not found or not users:
        raise _invalid_token()
    if not await mail_repository.delete_token(connection, digest):
        raise _invalid_token()
    return users[0], found[1]


def _password_required() -> errors.PermissionDenied:
    message = "Your own e-mail address is changed by ChangeEmail, with your password."
    return errors.PermissionDenied("PASSWORD_REQUIRED", message)


def _invalid_token() -> errors.InvalidArgument:
    message = "The link is not valid any more. Ask for a new mail."
    return errors.InvalidArgument("INVALID_MAIL_TOKEN", message)
