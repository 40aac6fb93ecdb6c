"""Clones: two PCs with one key, noticed because a journal comes back after another one was in its place.

A reinstalled agent begins a new journal and keeps it. Two agents take turns: theirs come back.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Held pulls end within half a minute, so two agents take turns at least that often; a restored backup is slower.
RETURNS_WITHIN = timedelta(minutes=10)
MAX_LEFT = 4


@dataclass(frozen=True, slots=True)
class Trail:
    """The journal that a PC's last pull named, and those before it with the moments at which they gave way."""

    journal: str
    left: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A PC's trail after another pull, and whether this one gives a clone away."""

    trail: Trail
    is_clone: bool = False


def follow(trail: Trail | None, journal: str, now: datetime) -> Step:
    """Decide what a pull with this journal tells."""
    if trail is None:
        return Step(Trail(journal))
    if trail.journal == journal:
        return Step(trail)
    recent = tuple((name, at) for name, at in trail.left if now - at <= RETURNS_WITHIN)
    is_clone = any(name == journal for name, _ in recent)
    others = tuple((name, at) for name, at in recent if name != journal)
    return Step(Trail(journal, (*others, (trail.journal, now))[-MAX_LEFT:]), is_clone)
