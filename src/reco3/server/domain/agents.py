"""Agents: what a heartbeat changes, and when a PC counts as ONLINE.

The 30-second rule is the only truth about ONLINE; nothing else may set it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from reco3.protocol.commands import Mode
from reco3.protocol.messages import Heartbeat
from reco3.server.domain.audit import ROLLUP_PERIOD_S, AuditEvent, Stream, agent_actor, system_actor

# A PC is OFFLINE thirty seconds after its last heartbeat, less what the sweep and the page need to show it.
OFFLINE_AFTER_S = 29.8
DEFAULT_ORG = "default"
MAX_NAME_CHARS = 64
_MODES = frozenset(Mode)


class AgentStatus(StrEnum):
    """Whether the PC was heard of lately."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


@dataclass(frozen=True, slots=True)
class Agent:
    """What the server knows of one PC.

    `payload_json` is the last heartbeat's body as JSON text.
    `is_online` is the last state that was announced and audited; `status_at` tells the truth of the moment.
    `rollup_count` heartbeats were taken since `rollup_from` without an audit row of their own.
    """

    agent_id: str
    last_seen: datetime
    platform: str
    version: str
    payload_json: str
    created_at: datetime
    updated_at: datetime
    mode: str | None = None
    apply_enabled: bool | None = None
    is_online: bool = False
    rollup_count: int = 0
    rollup_from: datetime | None = None
    org_id: str = DEFAULT_ORG


class Pulse(NamedTuple):
    """What the last heartbeat of a PC left behind that decides about the next one.

    `points_due_at` is when its open window of history should close, in Unix seconds, `open_chars` how long that is.
    """

    created_at: datetime
    version: str
    mode: str | None
    apply_enabled: bool | None
    is_online: bool
    rollup_count: int
    rollup_from: datetime | None
    org_id: str = DEFAULT_ORG
    points_due_at: int | None = None
    agent_started_ms: int | None = None
    open_chars: int = 0


class Beat(NamedTuple):
    """One PC's new record, the text that its open points grow by, and when to close their window in Unix seconds."""

    agent: Agent
    points: str
    points_due_at: int
    agent_started_ms: int | None


@dataclass(frozen=True, slots=True)
class HeartbeatChange:
    """What one heartbeat does: the agent's new record and the audit rows it deserves."""

    agent: Agent
    events: tuple[AuditEvent, ...]


class TakenHeartbeat(NamedTuple):
    """A heartbeat that passed the border: parsed, checked and timed; `payload_json` is its body."""

    agent_id: str
    heartbeat: Heartbeat
    payload_json: str
    at: datetime


def status_at(last_seen: datetime, now: datetime) -> AgentStatus:
    """Whether a PC last heard of at `last_seen` is ONLINE at `now`."""
    return AgentStatus.ONLINE if last_seen > offline_cutoff(now) else AgentStatus.OFFLINE


def offline_cutoff(now: datetime) -> datetime:
    """A PC last heard of at or before this moment is OFFLINE."""
    return now - timedelta(seconds=OFFLINE_AFTER_S)


def take_heartbeat(previous: Agent | Pulse | None, taken: TakenHeartbeat, *, every_audited: bool) -> HeartbeatChange:
    """Decide what a heartbeat changes."""
    agent = _refreshed(previous, taken)
    events = [*_state_events(previous, agent)]
    rollup_due = _is_rollup_due(agent, taken.at)
    if every_audited or events or rollup_due:
        events.append(_heartbeat_event(agent, taken.at, is_rollup=not every_audited))
        agent = replace(agent, rollup_count=0, rollup_from=taken.at)
    return HeartbeatChange(agent, tuple(events))


def go_offline(agent: Agent, now: datetime) -> HeartbeatChange:
    """Announce that a PC has not been heard of for too long."""
    event = AuditEvent(
        ts=now,
        actor=system_actor("offline-sweep"),
        event_type="agent_offline",
        ref_id=agent.agent_id,
        agent_id=agent.agent_id,
        payload={"last_seen": agent.last_seen.isoformat(), "heartbeats_since_last_row": agent.rollup_count},
    )
    return HeartbeatChange(replace(agent, is_online=False, updated_at=now), (event,))


def _refreshed(previous: Agent | Pulse | None, taken: TakenHeartbeat) -> Agent:
    metrics = taken.heartbeat.metrics
    return Agent(
        agent_id=taken.agent_id,
        last_seen=taken.at,
        platform=(taken.heartbeat.platform or metrics.platform or "")[:MAX_NAME_CHARS].replace("\0", ""),
        version=(taken.heartbeat.version or "")[:MAX_NAME_CHARS].replace("\0", ""),
        payload_json=taken.payload_json,
        created_at=previous.created_at if previous else taken.at,
        updated_at=taken.at,
        mode=metrics.mode if metrics.mode in _MODES else None,
        apply_enabled=metrics.apply_enabled,
        is_online=True,
        rollup_count=(previous.rollup_count if previous else 0) + 1,
        rollup_from=(previous.rollup_from if previous else None) or taken.at,
        org_id=previous.org_id if previous else DEFAULT_ORG,
    )


def _state_events(previous: Agent | Pulse | None, agent: Agent) -> Iterator[AuditEvent]:
    if previous is None or not previous.is_online:
        yield _event(agent, "agent_online", {"first_contact": previous is None})
    if previous is None:
        return
    states = (
        ("mode", previous.mode, agent.mode),
        ("apply_enabled", previous.apply_enabled, agent.apply_enabled),
        ("version", previous.version, agent.version),
    )
    for name, before, after in states:
        if before != after:
            yield _event(agent, f"agent_{name}_changed", {"from": before, "to": after})


def _is_rollup_due(agent: Agent, now: datetime) -> bool:
    return agent.rollup_from is not None and (now - agent.rollup_from).total_seconds() >= ROLLUP_PERIOD_S


def _heartbeat_event(agent: Agent, at: datetime, *, is_rollup: bool) -> AuditEvent:
    payload: dict[str, object] = {"mode": agent.mode}
    if is_rollup and agent.rollup_from is not None:
        payload |= {"count": agent.rollup_count, "from": agent.rollup_from.isoformat(), "to": at.isoformat()}
    return replace(_event(agent, "agent_heartbeat", payload), stream=Stream.TELEMETRY)


def _event(agent: Agent, event_type: str, payload: dict[str, object]) -> AuditEvent:
    return AuditEvent(
        ts=agent.last_seen,
        actor=agent_actor(agent.agent_id),
        event_type=event_type,
        ref_id=agent.agent_id,
        agent_id=agent.agent_id,
        payload=payload,
    )
