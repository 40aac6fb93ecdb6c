"""Passwords, hashed with Argon2id beside the event loop and few at once.

RFC 9106, section 4, second choice (64 MiB, 3 passes), with one lane instead of four: a log-in then takes a quarter of
a second of one core, and heartbeats keep the other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from reco3.server.domain.errors import Busy
from reco3.server.domain.passwords import normalized

AT_ONCE = 2
MAX_WAITING = 16

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs whoever stole the hashes."""

    iterations: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 1

    @property
    def nobodys_hash(self) -> str:
        """A hash that belongs to no password: a log-in under an unknown name takes as long as under a known one."""
        salt, digest = "A" * 22, "A" * 43
        return f"$argon2id$v=19$m={self.memory_kib},t={self.iterations},p={self.lanes}${salt}${digest}"


class Passwords:
    """Hashes and compares."""

    def __init__(self, cost: Cost | None = None) -> None:
        cost = cost or Cost()
        self._hasher = PasswordHasher(cost.iterations, cost.memory_kib, cost.lanes)
        self._nobodys_hash = cost.nobodys_hash
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
        is_same = await self._run(lambda: self._is_same(normalized(password), stored or self._nobodys_hash))
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
