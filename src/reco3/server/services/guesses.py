"""Guesses at operators' keys and passwords: whoever tries too many different ones waits, and nobody else with him.

A script that keeps sending one old key is no guesser: the same wrong key counts once.
"""

from datetime import datetime, timedelta

from reco3.server.domain.errors import TooManyRequests
from reco3.server.services.ports import Clock

MAX_WRONG = 10
WINDOW = timedelta(minutes=1)
MAX_REMOTES = 10_000


class GuessLimiter:
    """Counts the different wrong keys per remote address over the last minute; it holds hashes, never keys."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong_at: dict[str, dict[str, datetime]] = {}

    def refuse_guessing(self, remote: str) -> None:
        """Refuse a remote that tried too many different keys.

        Raises:
            TooManyRequests: says for how long.
        """
        wrong_at = self._still_counting(remote)
        if len(wrong_at) < MAX_WRONG:
            return
        wait_s = (WINDOW - (self._clock() - min(wrong_at.values()))).total_seconds()
        raise TooManyRequests(
            "Too many wrong keys or passwords; wait a minute and try again.", retry_after_s=max(1, int(wait_s) + 1)
        )

    def note_wrong(self, remote: str, key_hash: str) -> None:
        """Count a wrong key; of too many remotes the one that was wrong first is forgotten."""
        if remote not in self._wrong_at and len(self._wrong_at) >= MAX_REMOTES:
            del self._wrong_at[next(iter(self._wrong_at))]
        self._wrong_at.setdefault(remote, {})[key_hash] = self._clock()

    def _still_counting(self, remote: str) -> dict[str, datetime]:
        now = self._clock()
        recent = {key: at for key, at in self._wrong_at.get(remote, {}).items() if now - at < WINDOW}
        if recent:
            self._wrong_at[remote] = recent
        else:
            self._wrong_at.pop(remote, None)
        return recent
