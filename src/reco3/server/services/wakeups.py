"""Wake-ups: how a new order reaches the pull that a PC holds open.

One process only; it carries no content, so a lost wake-up costs time and nothing else.
"""

import asyncio
from collections import defaultdict


class Wakeups:
    """Which PCs wait, and the means to wake them."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._is_closing = False

    @property
    def is_closing(self) -> bool:
        """Whether the server is stopping, so that nobody should wait any more."""
        return self._is_closing

    def enter(self, agent_id: str) -> asyncio.Event:
        """An event that is set whenever something new is there for this PC."""
        event = asyncio.Event()
        if self._is_closing:
            event.set()
        self._waiting[agent_id].add(event)
        return event

    def leave(self, agent_id: str, event: asyncio.Event) -> None:
        """Forget an event that `enter` gave."""
        self._waiting[agent_id].discard(event)
        if not self._waiting[agent_id]:
            del self._waiting[agent_id]

    def wake(self, agent_id: str) -> None:
        """Wake every pull that this PC holds."""
        for event in self._waiting.get(agent_id, ()):
            event.set()

    def close(self) -> None:
        """Wake everybody, for good: the server is stopping."""
        self._is_closing = True
        for events in self._waiting.values():
            for event in events:
                event.set()
