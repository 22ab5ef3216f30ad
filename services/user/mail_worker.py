"""Sends the mails that wait, in any number of processes at once.

A mail is sent at least once: a process that ends between sending and noting it leaves the mail to
be sent again. The token of a mail is made here, so that it is never stored.
"""

import asyncio
import datetime as dt
from dataclasses import dataclass

import aiosmtplib

from chassis import log
from chassis.database import Connection, Database
from services.user import account_repository, mail, mail_repository, opaque_tokens
from services.user.account_repository import Account
from services.user.mail import Purpose, Template, Text
from services.user.mail_repository import Mail
from services.user.mail_transport import Send, Transport, make_message

INTERVAL_SECONDS = 1.0
"""How often mails that are due are looked for."""
MAX_MAILS = 10
"""How many mails are claimed at a time."""
SEND_SECONDS = 30.0
"""How long one mail may take."""
LEASE = dt.timedelta(minutes=10)
"""How long after it was claimed a mail is due again, if its outcome is unknown. It exceeds the time
that MAX_MAILS may take."""
MIN_BACKOFF = dt.timedelta(seconds=10)
MAX_BACKOFF = dt.timedelta(hours=1)
MAX_AGE = dt.timedelta(days=1)
"""How long a mail is tried before it is given up."""
MAX_TOKENS = 5
"""How many tokens a user may have for one purpose: nobody can have a user's mailbox flooded."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a mail says, and to whom."""

    recipient: str
    text: Text
    digest: bytes | None = None
    """Of the token in the text."""


class MailWorker:
    """Claims mails, makes their tokens, and sends them."""

    def __init__(
        self, database: Database, transport: Transport, sender: str, link_url: str
    ) -> None:
        self._database = database
        self._transport = transport
        self._sender = sender
        self._link_url = link_url.rstrip("/")
        self._log = log.logger()

    async def run(self) -> None:
        """Send all mails that are due.

        Raises:
            errors.Unavailable: the database is down. Mails that were claimed are due again after
                LEASE.
        """
        while mails := await self._claim():
            try:
                async with self._transport.connect() as send:
                    for each in mails:
                        await self._deliver(each, send)
            except (OSError, aiosmtplib.SMTPException) as error:
                self._log.warning("mails_postponed", error=type(error).__name__)
                for each in mails:
                    await self._postpone(each)
                return

    async def _claim(self) -> list[Mail]:
        """Claim mails that are due; give up those that are too old."""
        async with self._database.connection() as connection:
            claimed = await mail_repository.claim(connection, LEASE, MAX_MAILS)
            given_up = [each for each in claimed if each.age > MAX_AGE]
            for each in given_up:
                self._log.error(
                    "mail_given_up", mail_id=str(each.mail_id), template=each.template.value
                )
            if given_up:
                await mail_repository.delete(connection, [each.mail_id for each in given_up])
        return [each for each in claimed if each.age <= MAX_AGE]

    async def _deliver(self, queued: Mail, send: Send) -> None:
        """Send one mail, if there is anything to say; postpone it if that fails.

        Raises:
            OSError: the connection is lost, or a response is late, and might be taken for that to
                the next mail: nothing more can be sent over it.
        """
        async with self._database.transaction() as connection:
            prepared = await self._prepare(connection, queued)
        if prepared is not None:
            try:
                await self._send(queued, prepared, send)
            except (OSError, ValueError, aiosmtplib.SMTPException) as error:
                self._note_failure(queued, error)
                await self._postpone(queued, prepared.digest)
                if isinstance(error, OSError):
                    raise
                return
        async with self._database.connection() as connection:
            await mail_repository.delete(connection, [queued.mail_id])

    async def _send(self, queued: Mail, prepared: _Prepared, send: Send) -> None:
        """Send one mail.

        Raises:
            OSError: as for `_deliver`.
            aiosmtplib.SMTPException: the server has refused the mail.
            ValueError: SMTP cannot have such an address.
        """
        message = make_message(queued, prepared.recipient, self._sender, prepared.text)
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)
        self._log.info("mail_sent", mail_id=str(queued.mail_id), template=queued.template.value)

    def _note_failure(self, queued: Mail, error: Exception) -> None:
        """Log a failure without the text of the error, which has the address."""
        self._log.warning(
            "mail_failed",
            mail_id=str(queued.mail_id),
            attempts=queued.attempts,
            error=type(error).__name__,
            code=getattr(error, "code", None),
        )

    async def _postpone(self, queued: Mail, digest: bytes | None = None) -> None:
        delay = min(MIN_BACKOFF * 2 ** min(queued.attempts - 1, 20), MAX_BACKOFF)
        async with self._database.connection() as connection:
            if digest is not None:
                await mail_repository.delete_token(connection, digest)
            await mail_repository.reschedule(connection, queued.mail_id, delay)

    async def _prepare(self, connection: Connection, queued: Mail) -> _Prepared | None:
        """Decide what a mail says now; None if it was cancelled or there are too many."""
        user = None
        if queued.user_id is not None:
            user = await account_repository.lock_account(connection, queued.user_id)
        if not await mail_repository.lock(connection, queued.mail_id):
            return None
        if queued.template is Template.EMAIL_CHANGED:
            return _Prepared(queued.email, mail.email_changed())
        if queued.template is Template.VERIFY_EMAIL:
            return await self._prepare_verification(connection, queued, user)
        account = await account_repository.find_account(connection, queued.email)
        if account is None:
            return None
        # To the address as it is stored: the one that was typed may be another one's mailbox.
        return await self._prepare_link(
            connection, queued.template, Purpose.RESET_PASSWORD, account, account.email
        )

    async def _prepare_verification(
        self, connection: Connection, queued: Mail, account: Account | None
    ) -> _Prepared | None:
        owner = await account_repository.find_account(connection, queued.email)
        if account is None or (account.email == queued.email and account.email_verified):
            return None
        prepared = await self._prepare_link(
            connection, queued.template, Purpose.VERIFY_EMAIL, account, queued.email
        )
        if prepared is not None and owner is not None and owner.user_id != account.user_id:
            return _Prepared(owner.email, mail.address_in_use(), prepared.digest)
        return prepared

    async def _prepare_link(
        self,
        connection: Connection,
        template: Template,
        purpose: Purpose,
        account: Account,
        email: str,
    ) -> _Prepared | None:
        token = opaque_tokens.make()
        digest = opaque_tokens.digest(token)
        lifetime = mail.LIFETIMES[purpose]
        if not await mail_repository.insert_token(
            connection, digest, purpose, account.user_id, email, lifetime, MAX_TOKENS
        ):
            self._log.info("mail_suppressed", template=template.value)
            return None
        text = _WITH_LINKS[template](self._link_url, token)
        return _Prepared(email, text, digest)


_WITH_LINKS = {
    Template.VERIFY_EMAIL: mail.verify_email,
    Template.RESET_PASSWORD: mail.reset_password,
    Template.ALREADY_REGISTERED: mail.already_registered,
}
