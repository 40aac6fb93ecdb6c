"""Incidents: one open per PC and code, however often the line repeats."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce

from reco3.protocol.commands import Severity
from reco3.server.domain.break_glass import BREAK_GLASS_CODE
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
    """A reason to open or bump an incident, seen `count` times."""

    agent_id: str
    code: str
    severity: str
    summary: str
    at: datetime
    count: int = 1


def merged(sightings: Iterable[Sighting]) -> list[Sighting]:
    """The sightings of each PC and code as one: as severe as the worst, and told as the last."""
    found: dict[tuple[str, str], list[Sighting]] = {}
    for sighting in sightings:
        found.setdefault((sighting.agent_id, sighting.code), []).append(sighting)
    return [_joined(alike) for alike in found.values()]


def _joined(alike: Sequence[Sighting]) -> Sighting:
    if len(alike) == 1:
        return alike[0]
    severity = reduce(_worse, {one.severity for one in alike})
    return replace(alike[-1], severity=severity, count=sum(one.count for one in alike))


def sighting_of(line: LogLine) -> Sighting | None:
    """The sighting a log line is, or None for a line that opens no incident; a use of break-glass alarms always."""
    if line.code == BREAK_GLASS_CODE:
        return Sighting(line.agent_id, BREAK_GLASS_CODE, Severity.CRITICAL, line.msg, line.created_at)
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
        count=sighting.count,
    )


def bumped(incident: Incident, sighting: Sighting) -> Incident:
    """The incident after another sighting: counted, and as severe as its worst one."""
    severity = _worse(incident.severity, sighting.severity)
    return replace(
        incident,
        count=incident.count + sighting.count,
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
