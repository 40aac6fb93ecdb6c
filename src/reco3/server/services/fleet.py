"""The fleet in memory: who was heard of when, in the order of their last contact.

It finds the silent without reading the database; it decides nothing: the database's own times do.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime


class FleetWatch:
    """The PCs that count as online, the longest silent first."""

    def __init__(self) -> None:
        self._heard: dict[str, datetime] = {}
        self.is_complete = False

    def load(self, online: Mapping[str, datetime]) -> None:
        """Learn who was online, and when each was last heard of; what was heard meanwhile stays."""
        known = {**online, **self._heard}
        self._heard = dict(sorted(known.items(), key=lambda item: item[1]))
        self.is_complete = True

    def heard(self, agent_id: str, at: datetime) -> None:
        """A heartbeat of this PC is durable."""
        self._heard.pop(agent_id, None)
        self._heard[agent_id] = at

    def lost(self, agent_id: str) -> None:
        """This PC was announced OFFLINE."""
        self._heard.pop(agent_id, None)

    def silent_since(self, cutoff: datetime) -> list[str]:
        """Who was last heard of at or before the cutoff."""
        return list(self._silent(cutoff))

    def online_after(self, cutoff: datetime) -> int:
        """How many were heard of after the cutoff."""
        return len(self._heard) - sum(1 for _ in self._silent(cutoff))

    @property
    def size(self) -> int:
        """How many count as online."""
        return len(self._heard)

    @property
    def earliest(self) -> datetime | None:
        """The last contact of the PC that has been silent for longest."""
        return next(iter(self._heard.values()), None)

    def _silent(self, cutoff: datetime) -> Iterator[str]:
        for agent_id, at in self._heard.items():
            if at > cutoff:
                return
            yield agent_id
