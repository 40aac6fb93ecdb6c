"""Agents: what a heartbeat changes, and when a PC counts as ONLINE.

The 30-second rule is the only truth about ONLINE; nothing else may set it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from reco3.protocol.commands import Mode
from reco3.protocol.messages import Heartbeat
from reco3.server.domain.audit import AuditEvent, Stream, agent_actor, system_actor
from reco3.server.domain.history import MAX_OPEN_CHARS, points_due_at
from reco3.server.domain.metrics import check_metrics
from reco3.server.domain.points import numbers_text, restart_text

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

    version: str
    mode: str | None
    apply_enabled: bool | None
    is_online: bool
    rollup_count: int
    rollup_from: datetime | None
    points_due_at: int | None = None
    agent_started_ms: int | None = None
    open_chars: int = 0


@dataclass(frozen=True, slots=True)
class AgentChange:
    """What happens to a PC's record, and the audit rows that it deserves."""

    agent: Agent
    events: tuple[AuditEvent, ...]


class TakenHeartbeat(NamedTuple):
    """A heartbeat that passed the border, reduced to what is kept of it; `payload_json` is its body.

    Thousands of these wait for one commit, so each is a few texts and numbers; `point` is what the history grows by.
    """

    agent_id: str
    at: datetime
    payload_json: str
    platform: str
    version: str
    mode: str | None
    apply_enabled: bool | None
    agent_started_ms: int | None
    point: str


class Beat(NamedTuple):
    """What the heartbeats of one PC in a batch do: the newest of them, the PC's new pulse, and its new points."""

    taken: TakenHeartbeat
    pulse: Pulse
    points: str


def read_heartbeat(agent_id: str, heartbeat: Heartbeat, payload_json: str, at: datetime) -> TakenHeartbeat:
    """Check a heartbeat and reduce it to what is kept.

    Raises:
        BadInput: a number that no PC can have, or a text that is too long.
    """
    check_metrics(heartbeat.metrics)
    return reduce_heartbeat(agent_id, heartbeat, payload_json, at)


def reduce_heartbeat(agent_id: str, heartbeat: Heartbeat, payload_json: str, at: datetime) -> TakenHeartbeat:
    """Reduce a heartbeat whose metrics were checked to what is kept."""
    metrics = heartbeat.metrics
    return TakenHeartbeat(
        agent_id,
        at,
        payload_json,
        _name(heartbeat.platform or metrics.platform),
        _name(heartbeat.version),
        metrics.mode if metrics.mode in _MODES else None,
        metrics.apply_enabled,
        metrics.agent_started_ms,
        numbers_text(metrics, at, is_restart=False),
    )


def status_at(last_seen: datetime, now: datetime) -> AgentStatus:
    """Whether a PC last heard of at `last_seen` is ONLINE at `now`."""
    return AgentStatus.ONLINE if last_seen > offline_cutoff(now) else AgentStatus.OFFLINE


def offline_cutoff(now: datetime) -> datetime:
    """A PC last heard of at or before this moment is OFFLINE."""
    return now - timedelta(seconds=OFFLINE_AFTER_S)


def take_heartbeat(
    previous: Pulse | None, taken: TakenHeartbeat, *, every_audited: bool
) -> tuple[Pulse, str, Sequence[AuditEvent]]:
    """Decide what a heartbeat changes: the PC's new pulse, what its open points grow by, and its audit rows.

    This runs thousands of times a second: it makes one value, and looks for news only where something differs.
    """
    agent_id, at, _, _, version, mode, apply_enabled, started_ms, point = taken
    count, since, due_at, open_chars = 1, at, None, 0
    if previous is not None:
        _, _, _, _, counted, since_before, due_at, started_before_ms, open_chars = previous
        count, since = counted + 1, since_before or at
        if started_ms is None:
            started_ms = started_before_ms
        elif started_before_ms is not None and started_ms != started_before_ms:
            point = restart_text(point)
    if open_chars >= MAX_OPEN_CHARS:
        point = ""
    at_s = at.timestamp()
    due_at = points_due_at(agent_id, at) if due_at is None else due_at
    state = (version, mode, apply_enabled, True)
    # With the window of history, whose moment each PC has for itself: a fleet that came at once is not counted at once.
    is_rollup_due = due_at <= at_s and since.timestamp() < due_at
    is_news = every_audited or is_rollup_due or previous is None or previous[:4] != state
    events = _events(previous, taken, _Rollup(count, since), every_audited=every_audited) if is_news else ()
    if events:
        count, since = 0, at
    return Pulse(*state, count, since, due_at, started_ms, open_chars + len(point)), point, events


def go_offline(agent: Agent, now: datetime) -> AgentChange:
    """Announce that a PC has not been heard of for too long."""
    event = AuditEvent(
        ts=now,
        actor=system_actor("offline-sweep"),
        event_type="agent_offline",
        ref_id=agent.agent_id,
        agent_id=agent.agent_id,
        payload={"last_seen": agent.last_seen.isoformat(), "heartbeats_since_last_row": agent.rollup_count},
    )
    return AgentChange(replace(agent, is_online=False, updated_at=now), (event,))


def _name(text: str | None) -> str:
    return (text or "")[:MAX_NAME_CHARS].replace("\0", "")


class _Rollup(NamedTuple):
    """How many heartbeats went by without an audit row of their own, and since when."""

    beats: int
    since: datetime


def _events(
    previous: Pulse | None, taken: TakenHeartbeat, rollup: _Rollup, *, every_audited: bool
) -> Sequence[AuditEvent]:
    payload: dict[str, object] = {"mode": taken.mode}
    if not every_audited:
        payload |= {"count": rollup.beats, "from": rollup.since.isoformat(), "to": taken.at.isoformat()}
    heartbeat = replace(_event(taken, "agent_heartbeat", payload), stream=Stream.TELEMETRY)
    return (*_state_events(previous, taken), heartbeat)


def _state_events(previous: Pulse | None, taken: TakenHeartbeat) -> Iterator[AuditEvent]:
    if previous is None or not previous.is_online:
        yield _event(taken, "agent_online", {"first_contact": previous is None})
    if previous is None:
        return
    states = (
        ("mode", previous.mode, taken.mode),
        ("apply_enabled", previous.apply_enabled, taken.apply_enabled),
        ("version", previous.version, taken.version),
    )
    for name, before, after in states:
        if before != after:
            yield _event(taken, f"agent_{name}_changed", {"from": before, "to": after})


def _event(taken: TakenHeartbeat, event_type: str, payload: dict[str, object]) -> AuditEvent:
    return AuditEvent(
        ts=taken.at,
        actor=agent_actor(taken.agent_id),
        event_type=event_type,
        ref_id=taken.agent_id,
        agent_id=taken.agent_id,
        payload=payload,
    )
