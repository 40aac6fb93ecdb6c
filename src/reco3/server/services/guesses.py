"""Guesses at operators' keys: whoever was wrong too often waits, and nobody else with him."""

from collections import deque
from datetime import datetime, timedelta

from reco3.server.domain.errors import TooManyRequests
from reco3.server.services.ports import Clock

MAX_WRONG = 10
WINDOW = timedelta(minutes=1)
MAX_REMOTES = 10_000


class GuessLimiter:
    """Counts wrong keys per remote address over the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong_at: dict[str, deque[datetime]] = {}

    def refuse_guessing(self, remote: str) -> None:
        """Refuse a remote that was wrong too often.

        Raises:
            TooManyRequests: says for how long.
        """
        wrong_at = self._wrong_at.get(remote)
        if wrong_at is None:
            return
        now = self._clock()
        while wrong_at and now - wrong_at[0] >= WINDOW:
            wrong_at.popleft()
        if not wrong_at:
            del self._wrong_at[remote]
        if len(wrong_at) < MAX_WRONG:
            return
        wait_s = (WINDOW - (now - wrong_at[0])).total_seconds()
        raise TooManyRequests(
            "Too many wrong API keys; wait a minute and try again.", retry_after_s=max(1, int(wait_s) + 1)
        )

    def note_wrong(self, remote: str) -> None:
        """Count a wrong key; of too many remotes the one that was wrong first is forgotten."""
        if remote not in self._wrong_at and len(self._wrong_at) >= MAX_REMOTES:
            del self._wrong_at[next(iter(self._wrong_at))]
        self._wrong_at.setdefault(remote, deque(maxlen=MAX_WRONG)).append(self._clock())
