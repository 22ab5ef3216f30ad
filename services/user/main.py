"""The user service as a program."""

import datetime as dt
from contextlib import aclosing
from pathlib import Path
from typing import cast

import httpx

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import settings, tokens
from chassis.jwks import KeySet
from chassis.revocations import Revocations
from chassis.service import Resources, Service
from chassis.supervision import BackgroundTask
from chassis.tokens import Verifier
from services.user import first_admin, mail_worker, sessions
from services.user.accounts import Accounts
from services.user.cipher import Cipher
from services.user.first_admin import FirstAdmin
from services.user.id_tokens import IdTokens
from services.user.mail_transport import FileTransport, SmtpTransport, Transport
from services.user.mail_worker import MailWorker
from services.user.passwords import Passwords
from services.user.revocation_log import RevocationLog
from services.user.servicer import UserServicer
from services.user.sessions import Sessions
from services.user.settings import UserSettings
from services.user.signing_keys import SigningKeys


def make_servicer(resources: Resources) -> UserServicer:
    """Make the servicer, and the tasks beside it."""
    config = cast(UserSettings, resources.settings)
    database = resources.database
    passwords = Passwords()
    resources.stack.callback(passwords.close)
    accounts = Accounts(database, passwords)
    keys = make_keys(resources)
    logins = Sessions(
        database,
        passwords,
        keys,
        verification_required=bool(config.userservice_verification_required),
    )
    revocations = RevocationLog(database, resources.draining)
    admin = FirstAdmin(
        database,
        passwords,
        config.userservice_admin_email,
        config.userservice_admin_password.get_secret_value(),
    )
    worker = MailWorker(
        database,
        open_transport(config),
        config.userservice_mail_sender,
        config.userservice_link_url,
    )
    tasks = [
        keys.task(),
        revocations.task(),
        BackgroundTask("first_admin", admin.ensure, first_admin.INTERVAL_SECONDS),
        BackgroundTask("mail_worker", worker.run, mail_worker.INTERVAL_SECONDS),
        BackgroundTask("session_sweep", logins.sweep, sessions.SWEEP_SECONDS),
        BackgroundTask("token_sweep", accounts.sweep, sessions.SWEEP_SECONDS),
    ]
    outside = open_id_tokens(resources)
    resources.tasks.extend([*tasks, *outside.tasks()])
    return UserServicer(database, accounts, logins, keys, revocations, admin, outside)


def make_verifier(resources: Resources, servicer: UserServicer) -> Verifier:
    """Make what verifies access tokens, by the keys and the sessions of this process."""
    keys = KeySet(servicer.keys.publish)
    revocations = Revocations(tokens.REVOCATION_SECONDS)

    async def follow() -> None:
        async with aclosing(servicer.revocations.watch()) as watched:
            async for ended in watched:
                for each in ended:
                    revocations.revoke(each.session_id)
                revocations.known.set()

    tasks = [
        BackgroundTask("key_set", keys.refresh, servicer.keys.interval_seconds),
        BackgroundTask("apply_revocations", follow, 0.0),
    ]
    resources.tasks.extend(tasks)
    return Verifier(keys, revocations)


def make_keys(resources: Resources) -> SigningKeys:
    """Make the keys that sign access tokens."""
    config = cast(UserSettings, resources.settings)
    return SigningKeys(
        resources.database,
        Cipher(config.userservice_key_secret.get_secret_value()),
        lifetime=dt.timedelta(seconds=config.userservice_key_lifetime_seconds),
        notice=dt.timedelta(seconds=config.userservice_key_notice_seconds),
    )


def open_id_tokens(resources: Resources) -> IdTokens:
    """Make what verifies the tokens of outside identity providers."""
    config = cast(UserSettings, resources.settings)
    clients = {
        issuer: httpx.AsyncClient(follow_redirects=False, trust_env=False)
        for issuer in config.userservice_trusted_issuers
    }
    for client in clients.values():
        resources.stack.push_async_callback(client.aclose)
    return IdTokens(clients)


def open_transport(config: UserSettings) -> Transport:
    """Return where mails go."""
    url = config.userservice_smtp_url.get_secret_value()
    if url:
        return SmtpTransport(url)
    workspace = settings.dotenv_path().parent
    return FileTransport(workspace / Path(config.userservice_mail_directory))


SERVICE = Service(
    user_pb2.DESCRIPTOR.services_by_name["UserService"],
    user_pb2_grpc.add_UserServiceServicer_to_server,
    make_servicer,
    database_name="userdb",
    settings_class=UserSettings,
    make_verifier=make_verifier,
)


if __name__ == "__main__":
    SERVICE.run()
