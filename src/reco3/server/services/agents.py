"""Heartbeats in, the list of PCs out, and the sweep that announces OFFLINE."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.agents import (
    OFFLINE_AFTER_S,
    Agent,
    AgentStatus,
    TakenHeartbeat,
    go_offline,
    offline_cutoff,
    status_at,
    take_heartbeat,
)
from reco3.server.domain.audit import AuditEvent, HeartbeatAudit, writes_every_heartbeat
from reco3.server.domain.errors import NotFound
from reco3.server.domain.metrics import Sample, check_metrics, sample_of
from reco3.server.services.ports import ErrorTally, Outside, Transaction

RECENT_ERRORS_S = 3600
MAX_SAMPLES = 5_000
SWEEP_PERIOD_S = 10.0


@dataclass(frozen=True, slots=True)
class AgentView:
    """One PC as an operator sees it."""

    agent: Agent
    status: AgentStatus
    errors: ErrorTally | None


@dataclass(frozen=True, slots=True)
class AgentPage:
    """One page of PCs, in the order of their ids, and the fleet's totals."""

    views: tuple[AgentView, ...]
    online: int
    total: int
    now: datetime


class AgentService:
    """What PCs tell of themselves, and what operators read of it."""

    def __init__(self, outside: Outside, heartbeat_audit: HeartbeatAudit) -> None:
        self._outside = outside
        self._heartbeat_audit = heartbeat_audit
        self._fleet_size = 0

    async def record_heartbeat(self, taken: TakenHeartbeat) -> None:
        """Store a heartbeat; returns once it is durable.

        Raises:
            BadInput: a number that no PC can have.
        """
        check_metrics(taken.heartbeat.metrics)
        await self._outside.store.write_grouped(self._take_heartbeats, taken)
        self._outside.announcer.announce("agents", taken.agent_id)

    async def list_agents(self, *, after: str, limit: int) -> AgentPage:
        """The PCs after an id, with their status at this moment."""
        now = self._outside.clock()
        return await self._outside.store.read(lambda tx: _agent_page(tx, now, after=after, limit=limit))

    async def recent_samples(self, agent_id: str, *, minutes: int) -> list[Sample]:
        """A PC's samples of the last minutes, oldest first.

        Raises:
            NotFound: no PC of that id was ever heard of.
        """
        start = self._outside.clock() - timedelta(minutes=minutes)

        def query(tx: Transaction) -> list[Sample]:
            require_agent(tx, agent_id)
            return tx.samples.since(agent_id, start, limit=MAX_SAMPLES)

        return await self._outside.store.read(query)

    async def sweep_offline(self) -> float:
        """Announce every PC that has gone silent; returns after how many seconds to sweep again."""
        now = self._outside.clock()
        silent = await self._outside.store.read(lambda tx: tx.agents.silent_since(offline_cutoff(now)))
        if silent:
            await self._announce_offline(now)
        return await self._outside.store.read(lambda tx: self._plan_next_sweep(tx, now))

    async def _announce_offline(self, now: datetime) -> None:
        def work(tx: Transaction) -> list[str]:
            changes = [go_offline(agent, now) for agent in tx.agents.silent_since(offline_cutoff(now))]
            tx.agents.put([change.agent for change in changes])
            tx.audit.add([event for change in changes for event in change.events])
            return [change.agent.agent_id for change in changes]

        for agent_id in await self._outside.store.write(work):
            self._outside.announcer.announce("agents", agent_id)

    def _plan_next_sweep(self, tx: Transaction, now: datetime) -> float:
        self._fleet_size = tx.agents.count()
        earliest = tx.agents.earliest_last_seen_online()
        if earliest is None:
            return SWEEP_PERIOD_S
        due_in = (earliest + timedelta(seconds=OFFLINE_AFTER_S) - now).total_seconds()
        return min(SWEEP_PERIOD_S, max(0.05, due_in))

    def _take_heartbeats(self, tx: Transaction, items: Sequence[TakenHeartbeat]) -> Sequence[None]:
        every_audited = writes_every_heartbeat(self._heartbeat_audit, fleet_size=self._fleet_size)
        known = tx.agents.named([taken.agent_id for taken in items])
        events: list[AuditEvent] = []
        samples: list[Sample] = []
        for taken in items:
            change = take_heartbeat(known.get(taken.agent_id), taken, every_audited=every_audited)
            known[taken.agent_id] = change.agent
            events.extend(change.events)
            samples.append(sample_of(taken.agent_id, taken.heartbeat.metrics, taken.at))
        tx.agents.put(list(known.values()))
        tx.samples.add(samples)
        tx.audit.add(events)
        return [None] * len(items)


def require_agent(tx: Transaction, agent_id: str) -> Agent:
    """The PC of that id.

    Raises:
        NotFound: no PC of that id was ever heard of.
    """
    agent = tx.agents.named([agent_id]).get(agent_id) if is_agent_id(agent_id) else None
    if agent is None:
        raise NotFound(
            f"No PC named {ascii(agent_id)[:70]} has reported yet; start its agent first.", code="agent_not_found"
        )
    return agent


def _agent_page(tx: Transaction, now: datetime, *, after: str, limit: int) -> AgentPage:
    agents = tx.agents.page(after=after, limit=limit)
    since = now - timedelta(seconds=RECENT_ERRORS_S)
    errors = tx.logs.error_tallies([agent.agent_id for agent in agents], since=since)
    return AgentPage(
        views=tuple(AgentView(agent, status_at(agent.last_seen, now), errors.get(agent.agent_id)) for agent in agents),
        online=tx.agents.count_seen_after(offline_cutoff(now)),
        total=tx.agents.count(),
        now=now,
    )
