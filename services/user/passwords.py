"""Password hashes: Argon2id with the parameters of OWASP: 19 MiB, two passes, one lane."""

import asyncio
import os

import argon2


class Passwords:
    """Hashes and verifies in at most one thread per core, which does not block the event loop."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def hash(self, password: str) -> str:
        """Return a salted hash in the PHC string format."""
        async with self._cores:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password_hash: str, password: str) -> bool:
        """Return whether the hash is that of the password."""
        async with self._cores:
            try:
                return await asyncio.to_thread(self._hasher.verify, password_hash, password)
            except argon2.exceptions.VerifyMismatchError:
                return False
