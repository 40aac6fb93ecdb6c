"""Incidents: opened and counted from sightings, listed, closed by a person."""

from dataclasses import replace

from reco3.server.domain.audit import AuditEvent, system_actor, user_actor
from reco3.server.domain.errors import Conflict, NotFound
from reco3.server.domain.incidents import Incident, IncidentStatus, Sighting, bumped, opened
from reco3.server.domain.operators import Operator
from reco3.server.services.ports import Cursor, Ids, Outside, Transaction


class IncidentRecorder:
    """Turns sightings into incidents inside somebody else's transaction."""

    def __init__(self, new_id: Ids) -> None:
        self._new_id = new_id

    def record(self, tx: Transaction, sighting: Sighting) -> bool:
        """Open an incident or count another sighting of it; returns whether one was opened."""
        known = tx.incidents.open_of(sighting.agent_id, sighting.code)
        if known is not None:
            tx.incidents.put(bumped(known, sighting))
            return False
        incident = opened(sighting, self._new_id())
        tx.incidents.add(incident)
        tx.audit.add([_opened_event(incident)])
        return True


class IncidentService:
    """What an operator does with incidents."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def newest(self, *, status: IncidentStatus | None, before: Cursor | None, limit: int) -> list[Incident]:
        """Incidents, newest first."""
        return await self._outside.store.read(lambda tx: tx.incidents.newest(status=status, before=before, limit=limit))

    async def close(self, incident_id: str, operator: Operator) -> None:
        """Close an incident: the next sighting of its code opens a new one.

        Raises:
            NotFound: there is no such incident.
            Conflict: it is closed already.
        """
        now = self._outside.clock()

        def work(tx: Transaction) -> Incident:
            incident = _require_open(tx, incident_id)
            closed = replace(incident, status=IncidentStatus.CLOSED, ts_close=now, closed_by=operator.name)
            tx.incidents.put(closed)
            event = AuditEvent(
                ts=now,
                actor=user_actor(operator.name),
                event_type="incident_closed",
                ref_id=incident_id,
                agent_id=incident.agent_id,
                payload={"code": incident.code, "count": incident.count},
            )
            tx.audit.add([event])
            return closed

        incident = await self._outside.store.write(work)
        self._outside.announcer.announce("incidents", incident.agent_id)


def _require_open(tx: Transaction, incident_id: str) -> Incident:
    incident = tx.incidents.get(incident_id)
    if incident is None:
        raise NotFound("There is no incident of that id.", code="incident_not_found")
    if incident.status is IncidentStatus.CLOSED:
        raise Conflict("This incident is closed already.", code="already_closed")
    return incident


def _opened_event(incident: Incident) -> AuditEvent:
    return AuditEvent(
        ts=incident.ts_open,
        actor=system_actor("incidents"),
        event_type="incident_opened",
        ref_id=incident.id,
        agent_id=incident.agent_id,
        payload={"code": incident.code, "severity": incident.severity},
    )
