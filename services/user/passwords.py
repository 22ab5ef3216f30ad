"""Password hashes: Argon2id with the parameters of OWASP: 19 MiB, two passes, one lane.

Each hash takes tens of milliseconds of a core and its 19 MiB: there is a thread per core, and a
bounded number of passwords that wait for one.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import argon2

from chassis import errors

WAITING_PER_CORE = 32
"""How many passwords may wait per core, for about a second; one more is refused at once."""

Result = TypeVar("Result")


class TooManyPasswords(errors.Error):
    """More passwords wait to be hashed than could be soon."""

    code = "RESOURCE_EXHAUSTED"
    http_status = 503


class Passwords:
    """Hashes and verifies in threads, without blocking the event loop.

    `memory_kib` is for tests that hash many.
    """

    def __init__(self, *, memory_kib: int = 19_456) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=memory_kib, parallelism=1)
        cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(cores, "passwords")
        self._max_pending = cores * (1 + WAITING_PER_CORE)
        self._pending: set[Future[Any]] = set()
        self._unknown = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Return a salted hash in the PHC string format.

        Raises:
            TooManyPasswords: too many wait already.
        """
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether the hash is that of the password; None, for no hash, takes as long.

        Raises:
            TooManyPasswords: too many wait already.
        """
        matches = await self._run(lambda: self._verify(password_hash or self._unknown, password))
        return matches and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash was made with other parameters than hashes are made with now."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Drop the passwords that wait, and end the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except argon2.exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        # A hash goes on in its thread when its call is cancelled: it counts until it is done.
        self._pending = {each for each in self._pending if not each.done()}
        if len(self._pending) >= self._max_pending:
            message = "Too many passwords wait to be checked. Try again."
            raise TooManyPasswords("TOO_MANY_PASSWORDS", message)
        future = self._threads.submit(work)
        self._pending.add(future)
        return await asyncio.wrap_future(future)
