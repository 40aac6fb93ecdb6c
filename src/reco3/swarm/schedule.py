"""When something is due: a wheel instead of a timer per PC, phases, and the pauses after a failure.

It looks at no clock: the moment is told to it.
"""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

TICK_S = 0.005
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
MAX_RETRY_AFTER_S = 600.0
_MAX_DOUBLINGS = 4


class TimerWheel(Generic[ItemT]):
    """Calls `action(item)` at the first tick that is not before the moment asked for.

    Nothing can be taken out: an action asks its item whether it is still meant.
    """

    __slots__ = ("_action", "_next_tick", "_slots", "_tick_s")

    def __init__(self, action: Callable[[ItemT], None], *, now: float, tick_s: float = TICK_S) -> None:
        self._action = action
        self._tick_s = tick_s
        self._slots: dict[int, list[ItemT]] = {}
        self._next_tick = math.floor(now / tick_s)

    def at(self, moment: float, item: ItemT) -> None:
        """Ask for an item to be due at a moment; what lies in the past is due at the next tick."""
        tick = max(math.ceil(moment / self._tick_s), self._next_tick)
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = [item]
        else:
            slot.append(item)

    def advance(self, now: float) -> None:
        """Act on everything that is due."""
        last_tick = math.floor(now / self._tick_s)
        while self._next_tick <= last_tick:
            due = self._slots.pop(self._next_tick, None)
            self._next_tick += 1
            for item in due or ():
                self._action(item)


def start_offset_s(number: int, *, pcs: int, spread_s: float) -> float:
    """When a PC begins within the spread: evenly, but so that neighbours by number do not begin together."""
    return (number * _stride(pcs) % pcs) / pcs * spread_s


def pause_s(failures: int, chance: float, *, retry_after_s: float | None = None) -> float:
    """How long a PC waits after its n-th failure in a row (n from 1): 1, 2, 4, 8, 10 s, jittered downwards by half.

    A server that names its own delay is obeyed within ±20 %. `chance` is a random number from 0 to 1.
    """
    if retry_after_s is not None:
        return jittered_s(min(retry_after_s, MAX_RETRY_AFTER_S), chance)
    full_s = min(FIRST_PAUSE_S * 2 ** min(failures - 1, _MAX_DOUBLINGS), LONGEST_PAUSE_S)
    return float(full_s * (0.5 + chance / 2))


def jittered_s(span_s: float, chance: float) -> float:
    """A span within ±20 %."""
    return span_s * (0.8 + 0.4 * chance)


def _stride(pcs: int) -> int:
    """A step through all numbers below `pcs` that visits each once, near the golden section."""
    stride = max(1, round(pcs * 0.618))
    while math.gcd(stride, pcs) != 1:
        stride += 1
    return stride
