"""Passwords, hashed with Argon2id beside the event loop and few at once.

RFC 9106, section 4, second choice (64 MiB, 3 passes), with one lane instead of four: a log-in then takes a quarter of
a second of one core, and heartbeats keep the other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from reco3.server.domain.errors import Busy
from reco3.server.domain.passwords import normalized

ITERATIONS = 3
MEMORY_KIB = 64 * 1024
LANES = 1
AT_ONCE = 2
MAX_WAITING = 16

# Nobody's: it keeps a log-in under an unknown name as slow as under a known one.
NOBODYS_HASH = f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${'A' * 22}${'A' * 43}"

ResultT = TypeVar("ResultT")


class Passwords:
    """Hashes and compares."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=ITERATIONS, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="reco3-password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to store.

        Raises:
            Busy: too many wait already.
        """
        return await self._run(lambda: self._hasher.hash(normalized(password)))

    async def is_right(self, password: str, stored: str | None) -> bool:
        """Whether a password belongs to a stored hash; takes as long when there is none.

        Raises:
            Busy: too many wait already.
        """
        is_same = await self._run(lambda: self._is_same(normalized(password), stored or NOBODYS_HASH))
        return is_same and stored is not None

    def _is_same(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except VerificationError:
            return False

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        if self._waiting >= MAX_WAITING:
            raise Busy("Too many people log in at this moment; try again.", retry_after_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
