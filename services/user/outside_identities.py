"""The accounts of outside identities, which log in without a password of ours."""

import uuid

from chassis import errors
from chassis.database import Connection
from services.user import account_repository, domain, mail_repository, session_repository
from services.user.account_repository import Account
from services.user.id_tokens import OutsideIdentity


async def find_or_make(connection: Connection, identity: OutsideIdentity) -> Account:
    """Return the account of an outside identity, which is made or linked at the first login.

    Until the transaction ends, the account is locked; if it is committed, the ID token is used.

    Raises:
        errors.Unauthenticated: the token was used before.
        errors.PermissionDenied: the issuer has not verified the e-mail address, or it is another
            one than that of the account here, and the same only case-insensitively.
    """
    if not await account_repository.use_id_token(
        connection, identity.token_digest, identity.token_expire_time
    ):
        message = "The ID token was used before. Log in at the provider again."
        raise errors.Unauthenticated("INVALID_ID_TOKEN", message)
    user_id = await account_repository.lock_identity(connection, identity.issuer, identity.subject)
    if user_id is None:
        user_id = await _link(connection, identity)
    account = await account_repository.lock_account(connection, user_id)
    if account is None:
        raise _not_linked()
    return account


async def _link(connection: Connection, identity: OutsideIdentity) -> uuid.UUID:
    """Link an identity to the user with its e-mail address, who is made if there is none."""
    email = domain.normalize_email(identity.email)
    if not email:
        raise _not_linked()
    name = domain.choose_display_name(identity.name, email)
    user_id = await account_repository.insert_unless_taken(
        connection, email, name, None, email_verified=True
    )
    if user_id is None:
        user_id = await _claim(connection, email)
    await account_repository.insert_identity(connection, identity.issuer, identity.subject, user_id)
    return user_id


async def _claim(connection: Connection, email: str) -> uuid.UUID:
    """Return the user with an e-mail address, for whoever owns it.

    A user who has not verified the address may be a stranger, who keeps no way into the account.
    """
    found = await account_repository.find_account(connection, email)
    account = found and await account_repository.lock_account(connection, found.user_id)
    if not account or account.email != email:
        raise _not_linked()
    if not account.email_verified:
        await account_repository.take_over(connection, account.user_id)
        await mail_repository.cancel(connection, account.user_id)
        await session_repository.end_sessions_of_user(connection, account.user_id)
    return account.user_id


def _not_linked() -> errors.PermissionDenied:
    message = "Verify your e-mail address at the provider, or log in with a password."
    return errors.PermissionDenied("IDENTITY_NOT_LINKED", message)
