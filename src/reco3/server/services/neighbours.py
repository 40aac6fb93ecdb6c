"""What other server processes on the same database have written, as far as this one remembers anything of it.

It carries hints, never content: whoever hears one asks the database. Losing one costs time and nothing else, but for
keys; so after every silence of the line all keys are read again.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.ports import Announcer
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.services.wakeups import Wakeups

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """One transaction of some process.

    `is_own`: this process wrote it. `orders` are PCs with something new in flight, `keys` those whose key changed,
    `topics` and `agent_ids` what dashboards show, `dismissed` people who must log in again.
    """

    is_own: bool = False
    orders: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    agent_ids: tuple[str, ...] = ()
    dismissed: tuple[str, ...] = ()
    has_trust_changes: bool = False


class NeighbourService:
    """Acts on what neighbours wrote as on what this process wrote."""

    def __init__(
        self, announcer: Announcer, wakeups: Wakeups, agent_keys: AgentKeyService, trust_changes: TrustChangeService
    ) -> None:
        self._announcer = announcer
        self._wakeups = wakeups
        self._agent_keys = agent_keys
        self._trust_changes = trust_changes
        self._jobs: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def hear(self, news: News) -> None:
        """A transaction of some process is durable."""
        if self._is_closing:
            return
        if news.keys:
            # Even our own: between reading a key and going by it another process may have changed it again.
            self._begin(self._adopt(news.keys))
        if news.is_own:
            return
        for agent_id in news.orders:
            self._wakeups.wake(agent_id)
        for topic in news.topics:
            for agent_id in news.agent_ids:
                self._announcer.announce(topic, agent_id)
        for name in news.dismissed:
            self._announcer.dismiss(name)
        if news.has_trust_changes:
            self._begin(self._trust_changes.load_revision())

    def catch_up(self) -> None:
        """The line was silent for a while: anything may have been written."""
        if self._is_closing:
            return
        self._begin(self._adopt(None))
        self._begin(self._trust_changes.load_revision())

    async def close(self) -> None:
        """Hear no more."""
        self._is_closing = True
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _adopt(self, agent_ids: tuple[str, ...] | None) -> None:
        for key in await self._agent_keys.reload(agent_ids):
            if key.is_revoked:
                self._wakeups.expel(key.agent_id)
            else:
                self._wakeups.readmit(key.agent_id)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._end)

    def _end(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("neighbour_not_followed", exc_info=error)
