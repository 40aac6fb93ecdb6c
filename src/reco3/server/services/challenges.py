"""Challenges: random bytes that a key must sign within five minutes, each good once.

They live in memory: a restart only makes a person press the button again.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.server.domain.errors import BadInput
from reco3.server.domain.keys import Site
from reco3.server.services.ports import Clock

LIFETIME = timedelta(minutes=5)
MAX_OPEN = 10_000
RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class Challenge:
    """What was asked, and under which address the browser asked for it."""

    random: bytes
    site: Site
    expires_at: datetime


class ChallengeBook:
    """The open challenges by what they are for; of too many the oldest is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, Challenge] = {}

    def fresh(self, site: Site) -> Challenge:
        """A challenge that is in no book yet."""
        return Challenge(secrets.token_bytes(RANDOM_BYTES), site, self._clock() + LIFETIME)

    def put(self, key: str, challenge: Challenge) -> None:
        """Open a challenge; an older one of the same key is void."""
        self._open.pop(key, None)
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._open[key] = challenge

    def take(self, key: str) -> Challenge:
        """The open challenge of a key, which afterwards is not open any more.

        Raises:
            BadInput: `challenge_over`.
        """
        found = self._open.pop(key, None)
        if found is None or found.expires_at <= self._clock():
            raise BadInput(
                "challenge", "it is used, unknown or older than 5 minutes; begin again", code="challenge_over"
            )
        return found
