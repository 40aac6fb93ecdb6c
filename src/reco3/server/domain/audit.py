"""Audit events: what is recorded, by whom, and how often a heartbeat deserves a row.

Nothing here writes: an event travels to the store in the transaction of the change that it tells of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

EVERY_HEARTBEAT_UP_TO_AGENTS = 50


class Stream(StrEnum):
    """`security` is never sampled; `telemetry` tells of routine contact with PCs."""

    SECURITY = "security"
    TELEMETRY = "telemetry"


class HeartbeatAudit(StrEnum):
    """How heartbeats are audited: a row each, a row per five minutes and PC, or by the size of the fleet."""

    EVERY = "every"
    ROLLUP = "rollup"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One row of the audit log.

    `actor` is `agent:<id>`, `user:<name>` or `system:<part>`; `ref_id` names what the event is about.
    """

    ts: datetime
    actor: str
    event_type: str
    ref_id: str | None = None
    agent_id: str | None = None
    payload: Mapping[str, object] = field(default_factory=dict)
    stream: Stream = Stream.SECURITY


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An audit event as it was stored, with its row number."""

    id: int
    event: AuditEvent


def writes_every_heartbeat(policy: HeartbeatAudit, *, fleet_size: int) -> bool:
    """Whether each heartbeat gets its own audit row under this policy."""
    if policy is HeartbeatAudit.AUTO:
        return fleet_size <= EVERY_HEARTBEAT_UP_TO_AGENTS
    return policy is HeartbeatAudit.EVERY


def agent_actor(agent_id: str) -> str:
    """The audit actor of a PC."""
    return f"agent:{agent_id}"


def user_actor(name: str) -> str:
    """The audit actor of an operator."""
    return f"user:{name}"


def system_actor(part: str) -> str:
    """The audit actor of a part of the server."""
    return f"system:{part}"
