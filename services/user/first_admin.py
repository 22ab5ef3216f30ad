"""The first admin, who comes from the settings where there is none."""

import asyncio

from chassis import log
from chassis.database import Database
from services.user import account_repository, mail_repository, session_repository
from services.user.passwords import Passwords

INTERVAL_SECONDS = 60.0
"""How often making the admin is tried again while that fails."""


class FirstAdmin:
    """Makes an admin once per process, if the database has none.

    `email` is in normal form, or empty for no admin. A shop that has lost its last admin gets one
    when the service starts again.
    """

    def __init__(self, database: Database, passwords: Passwords, email: str, password: str) -> None:
        self._database = database
        self._passwords = passwords
        self._email = email
        self._password = password
        self._lock = asyncio.Lock()
        self._is_done = not email
        self._log = log.logger()

    async def ensure(self) -> None:
        """Return when there is an admin, or none is configured.

        Raises:
            errors.Unavailable: the database is down.
        """
        if self._is_done:
            return
        async with self._lock:
            if not self._is_done:
                await self._make()
                self._is_done = True

    async def _make(self) -> None:
        async with self._database.connection() as connection:
            if await account_repository.has_admin(connection):
                return
        password_hash = await self._passwords.hash(self._password)
        async with self._database.transaction() as connection:
            user_id = await account_repository.make_first_admin(
                connection, self._email, password_hash
            )
            if user_id is not None:
                await account_repository.delete_identities(connection, user_id)
                await mail_repository.cancel(connection, user_id)
                await session_repository.end_sessions_of_user(connection, user_id)
                self._log.info("first_admin_made", user_id=str(user_id))
