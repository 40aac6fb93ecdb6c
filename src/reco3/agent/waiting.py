"""Waits until something can be seen, or until the time for it is over.

It refuses to wait without an end.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

LOOK_EVERY_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Seconds that only go forward, and a way to let some pass; tests bring their own."""

    now_s: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def remaining_s(self, deadline_s: float) -> float:
        """How long it is until then, never below zero."""
        return max(0.0, deadline_s - self.now_s())


def wait_for(
    look: Callable[[], T | None], watch: Stopwatch, *, deadline_s: float, every_s: float = LOOK_EVERY_S
) -> T | None:
    """Look again and again until there is something to see; the last look is after the deadline."""
    while (seen := look()) is None:
        remaining_s = watch.remaining_s(deadline_s)
        if remaining_s <= 0:
            return None
        watch.pause(min(every_s, remaining_s))
    return seen
