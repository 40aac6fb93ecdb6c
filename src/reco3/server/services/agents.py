"""Heartbeats in, the list of PCs out, and the sweep that announces OFFLINE."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.agents import (
    OFFLINE_AFTER_S,
    Agent,
    AgentStatus,
    Beat,
    Pulse,
    TakenHeartbeat,
    go_offline,
    offline_cutoff,
    status_at,
    take_heartbeat,
)
from reco3.server.domain.audit import AuditEvent, HeartbeatAudit, writes_every_heartbeat
from reco3.server.domain.errors import NotFound
from reco3.server.domain.history import close_windows
from reco3.server.services.clones import CloneWatch
from reco3.server.services.fleet import FleetWatch
from reco3.server.services.ports import ErrorTally, Outside, Transaction

RECENT_ERRORS_S = 3600
SWEEP_PERIOD_S = 10.0
RESCAN_S = 60.0

Told = Callable[[datetime | None, BaseException | None], None]


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

    def __init__(self, outside: Outside, heartbeat_audit: HeartbeatAudit, clones: CloneWatch) -> None:
        self._outside = outside
        self._note_run = clones.note_run
        self._heartbeat_audit = heartbeat_audit
        self._fleet_size = 0
        self._watch = FleetWatch()
        self._scanned_at: datetime | None = None
        self._was_leading = False

    async def record_heartbeat(self, taken: TakenHeartbeat) -> None:
        """Store a heartbeat; returns once it is durable."""
        at = await self._outside.store.write_grouped(self._take_heartbeats, taken)
        self._watch.heard(taken.agent_id, at)
        self._note_run(taken.agent_id, taken.agent_started_ms)
        self._outside.announcer.announce("agents", taken.agent_id)

    def post_heartbeat(self, taken: TakenHeartbeat, *, told: Told) -> None:
        """Store a heartbeat; `told` hears its time once it is durable, or the error.

        Raises:
            Busy: too much waits already.
        """
        heard = partial(self._heard, told, taken.agent_id, taken.agent_started_ms)
        self._outside.store.post_grouped(self._take_heartbeats, taken, told=heard)

    async def list_agents(self, *, after: str, limit: int) -> AgentPage:
        """The PCs after an id, with their status at this moment."""
        now = self._outside.clock()
        watch = self._watch
        known = (
            watch.online_after(offline_cutoff(now)) if watch.is_complete and not self._outside.store.is_shared else None
        )
        return await self._outside.store.read(lambda tx: _agent_page(tx, now, after=after, limit=limit, online=known))

    async def sweep_offline(self) -> float:
        """Announce every PC that has gone silent; returns after how many seconds to sweep again."""
        now = self._outside.clock()
        # One process says it for all; the others keep their silent, and whoever takes the lead looks for himself.
        is_leading = self._outside.store.is_leading
        if self._is_rescan_due(now) or (is_leading and not self._was_leading):
            self._watch.load(await self._outside.store.read(lambda tx: tx.agents.online()))
            self._scanned_at = now
        self._was_leading = is_leading
        silent = self._watch.silent_since(offline_cutoff(now))
        if silent and is_leading:
            await self._announce_offline(silent, now)
        self._fleet_size = await self._outside.store.read(lambda tx: tx.agents.count())
        return _next_sweep_s(self._watch.earliest, now) if is_leading else SWEEP_PERIOD_S

    def _is_rescan_due(self, now: datetime) -> bool:
        # What another process or a person wrote is found by looking at the whole table once in a while.
        if self._scanned_at is None:
            return True
        return (now - self._scanned_at).total_seconds() >= RESCAN_S

    async def _announce_offline(self, silent: Sequence[str], now: datetime) -> None:
        def work(tx: Transaction) -> dict[str, Agent]:
            agents = tx.agents.named(silent)
            cutoff = offline_cutoff(now)
            gone = [agent for agent in agents.values() if agent.is_online and agent.last_seen <= cutoff]
            changes = [go_offline(agent, now) for agent in gone]
            tx.agents.put([change.agent for change in changes])
            tx.audit.add([event for change in changes for event in change.events])
            return {**agents, **{change.agent.agent_id: change.agent for change in changes}}

        agents = await self._outside.store.write(work)
        for agent_id in silent:
            agent = agents.get(agent_id)
            if agent is not None and agent.is_online:
                self._watch.heard(agent_id, agent.last_seen)
                continue
            self._watch.lost(agent_id)
            self._outside.announcer.announce("agents", agent_id)

    def _heard(
        self, told: Told, agent_id: str, started_ms: int | None, at: datetime | None, error: BaseException | None
    ) -> None:
        if at is not None and error is None:
            self._watch.heard(agent_id, at)
            self._note_run(agent_id, started_ms)
            self._outside.announcer.announce("agents", agent_id)
        told(at, error)

    def _take_heartbeats(self, tx: Transaction, items: Sequence[TakenHeartbeat]) -> Sequence[datetime]:
        # A fleet that has just come is counted only at the next sweep, but seen at once.
        fleet_size = max(self._fleet_size, self._watch.size)
        every_audited = writes_every_heartbeat(self._heartbeat_audit, fleet_size=fleet_size)
        pulses = tx.agents.pulses([taken.agent_id for taken in items])
        beats: dict[str, Beat] = {}
        events: list[AuditEvent] = []
        for taken in items:
            earlier = beats.get(taken.agent_id)
            previous = earlier.pulse if earlier else pulses.get(taken.agent_id)
            pulse, point, news = take_heartbeat(previous, taken, every_audited=every_audited)
            beats[taken.agent_id] = Beat(taken, pulse, earlier.points + point if earlier else point)
            events.extend(news)
        tx.agents.beat(beats)
        tx.audit.add(events)
        _close_due_windows(tx, pulses, items[-1].at)
        return [taken.at for taken in items]


def _close_due_windows(tx: Transaction, pulses: Mapping[str, Pulse], now: datetime) -> None:
    now_s = now.timestamp()
    due = [name for name, pulse in pulses.items() if pulse.points_due_at is None or pulse.points_due_at <= now_s]
    if not due:
        return
    closed = {name: close_windows(name, text, now) for name, text in tx.agents.open_points(due).items()}
    tx.history.add([window for one in closed.values() for window in one.windows])
    tx.agents.reopen(closed)


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


def _next_sweep_s(earliest: datetime | None, now: datetime) -> float:
    if earliest is None:
        return SWEEP_PERIOD_S
    due_in_s = (earliest + timedelta(seconds=OFFLINE_AFTER_S) - now).total_seconds()
    return min(SWEEP_PERIOD_S, max(0.05, due_in_s))


def _agent_page(tx: Transaction, now: datetime, *, after: str, limit: int, online: int | None) -> AgentPage:
    agents = tx.agents.page(after=after, limit=limit)
    since = now - timedelta(seconds=RECENT_ERRORS_S)
    errors = tx.logs.error_tallies([agent.agent_id for agent in agents], since=since)
    return AgentPage(
        views=tuple(AgentView(agent, status_at(agent.last_seen, now), errors.get(agent.agent_id)) for agent in agents),
        online=tx.agents.count_seen_after(offline_cutoff(now)) if online is None else online,
        total=tx.agents.count(),
        now=now,
    )
