"""Clones: two PCs with one key, noticed because what one of them says comes back after the other's was in its place.

A reinstalled agent begins a new journal and keeps it. Two agents take turns: theirs come back.
A copy that carries the journal along is told by its run instead: each start of an agent has a moment of its own, which
never comes back either. One late heartbeat of a run that is over must not look like a copy, so a run comes back twice.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Held pulls end within half a minute, so two agents take turns at least that often; a restored backup is slower.
RETURNS_WITHIN = timedelta(minutes=10)
MAX_LEFT = 4
JOURNAL_RETURNS = 1
RUN_RETURNS = 2


@dataclass(frozen=True, slots=True)
class Trail:
    """What a PC named last, those before it with the moments at which they gave way, and the latest returns."""

    name: str
    left: tuple[tuple[str, datetime], ...] = ()
    returns: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A PC's trail after another message, and whether this one gives a clone away."""

    trail: Trail
    is_clone: bool = False


def follow(trail: Trail, name: str, now: datetime, *, returns: int) -> Step:
    """Decide what a message with this journal or run tells; so many returns within ten minutes are a clone."""
    if trail.name == name:
        return Step(trail)
    recent = tuple((other, at) for other, at in trail.left if now - at <= RETURNS_WITHIN)
    returned = tuple(at for at in trail.returns if now - at <= RETURNS_WITHIN)
    came_back = any(other == name for other, _ in recent)
    if came_back:
        returned = (*returned, now)[-returns:]
    others = tuple((other, at) for other, at in recent if other != name)
    left = (*others, (trail.name, now))[-MAX_LEFT:]
    return Step(Trail(name, left, returned), is_clone=came_back and len(returned) >= returns)
