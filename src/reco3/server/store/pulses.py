"""What the writer knows of every PC's last heartbeat because it wrote it itself, so that it need not read it again.

It refuses to believe itself once another connection has written: SQLite's `data_version` tells
(https://sqlite.org/pragma.html#pragma_data_version). Nothing counts before the transaction that wrote it is durable.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection

from reco3.server.domain.agents import Pulse
from reco3.server.store.page_cache import PageCache


class PulseCache:
    """The pulses of the writer's own transactions; used by its thread alone."""

    def __init__(self) -> None:
        self._known: dict[str, Pulse] = {}
        self._version: int | None = None
        self._pages = PageCache()

    def begin(self, connection: Connection) -> "PulseChanges":
        """What is known at the start of a transaction."""
        version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        if version != self._version:
            self._known.clear()
            self._version = version
        self._pages.fit(connection, pcs=len(self._known))
        return PulseChanges(self._known)


class PulseChanges:
    """The cache as one transaction sees it, with what that transaction changed."""

    def __init__(self, known: dict[str, Pulse]) -> None:
        self._known = known
        self._changed: dict[str, Pulse] = {}
        self._forgotten: set[str] = set()

    def get(self, agent_id: str) -> Pulse | None:
        """The pulse of a PC, or None when it must be read."""
        pulse = self._changed.get(agent_id)
        if pulse is not None or agent_id in self._forgotten:
            return pulse
        return self._known.get(agent_id)

    def put(self, pulses: Mapping[str, Pulse]) -> None:
        """These were written."""
        self._changed.update(pulses)

    def forget(self, agent_ids: Collection[str]) -> None:
        """These were changed in another way: read them again."""
        self._forgotten.update(agent_ids)
        for agent_id in agent_ids:
            self._changed.pop(agent_id, None)

    def keep(self) -> None:
        """The transaction is durable: what it changed is known from now on."""
        for agent_id in self._forgotten:
            self._known.pop(agent_id, None)
        self._known.update(self._changed)
