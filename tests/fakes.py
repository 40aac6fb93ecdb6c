"""Stand-ins for the outside world: the clock, the live stream, ids.

They record and answer; they refuse to stand in for the store, which is real in every test.
"""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 15, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that only a test moves."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time that the test chose."""
        return self.now

    def advance(self, seconds: float) -> datetime:
        """Move on, and return the new time."""
        self.now += timedelta(seconds=seconds)
        return self.now


@dataclass
class RecordingAnnouncer:
    """Remembers what the live stream was told."""

    announced: list[tuple[str, str]] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)

    def announce(self, topic: str, agent_id: str) -> None:
        """Remember one hint."""
        self.announced.append((topic, agent_id))

    def dismiss(self, name: str) -> None:
        """Remember whose streams were ended."""
        self.dismissed.append(name)


class CounterIds:
    """Ids that count: `id-0001`, `id-0002` and so on."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        """The next id."""
        return f"id-{next(self._numbers):04d}"
