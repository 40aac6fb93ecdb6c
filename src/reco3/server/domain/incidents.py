"""Incidents: one open per PC and code, however often the line repeats."""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from reco3.protocol.commands import Severity
from reco3.server.domain.logs import LogLine

MAX_SUMMARY_CHARS = 500
NOTICE_CODE = "NOTIFY_OPS"


class IncidentStatus(StrEnum):
    """Whether somebody still has to look."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Incident:
    """Something an operator should look at; `count` tells how often it was seen while open."""

    id: str
    agent_id: str
    code: str
    severity: str
    title: str
    summary: str
    status: IncidentStatus
    ts_open: datetime
    last_seen_at: datetime
    count: int = 1
    ts_close: datetime | None = None
    closed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One reason to open or bump an incident."""

    agent_id: str
    code: str
    severity: str
    summary: str
    at: datetime


def sighting_of(line: LogLine) -> Sighting | None:
    """The sighting a log line is, or None for a line that opens no incident."""
    if line.level not in (Severity.ERROR, Severity.CRITICAL):
        return None
    return Sighting(line.agent_id, line.code or _fingerprint(line.msg), line.level, line.msg, line.created_at)


def opened(sighting: Sighting, incident_id: str) -> Incident:
    """The incident that a first sighting opens."""
    return Incident(
        id=incident_id,
        agent_id=sighting.agent_id,
        code=sighting.code,
        severity=sighting.severity,
        title=f"Agent {sighting.agent_id}: {sighting.severity} {sighting.code}",
        summary=sighting.summary[:MAX_SUMMARY_CHARS],
        status=IncidentStatus.OPEN,
        ts_open=sighting.at,
        last_seen_at=sighting.at,
    )


def bumped(incident: Incident, sighting: Sighting) -> Incident:
    """The incident after another sighting: counted, and as severe as its worst one."""
    severity = _worse(incident.severity, sighting.severity)
    return replace(
        incident,
        count=incident.count + 1,
        last_seen_at=sighting.at,
        summary=sighting.summary[:MAX_SUMMARY_CHARS],
        severity=severity,
        title=f"Agent {incident.agent_id}: {severity} {incident.code}",
    )


def _worse(first: str, second: str) -> str:
    order = list(Severity)
    return max(first, second, key=lambda severity: order.index(Severity(severity)))


# What varies between two reports of the same trouble: numbers, hexadecimal ids, quoted values.
_varying = re.compile(r"""0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}\b|\d+|"[^"]*"|'[^']*'""")


def _fingerprint(message: str) -> str:
    stable = _varying.sub("#", message[:MAX_SUMMARY_CHARS])
    return "LOG-" + hashlib.sha256(stable.encode()).hexdigest()[:8]
