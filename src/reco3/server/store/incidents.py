"""The `incidents` table."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from reco3.server.domain.incidents import Incident, IncidentStatus
from reco3.server.services.ports import Cursor
from reco3.server.store.paging import is_before
from reco3.server.store.tables import incidents

_columns = [incidents.c[name] for name in Incident.__dataclass_fields__]


class IncidentTable:
    """Reads and writes incidents inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, incident_id: str) -> Incident | None:
        """The incident of that id."""
        row = self._connection.execute(select(*_columns).where(incidents.c.id == incident_id)).one_or_none()
        return _incident(row) if row else None

    def open_of(self, agent_id: str, code: str) -> Incident | None:
        """The open incident of a PC and code."""
        query = select(*_columns).where(
            incidents.c.agent_id == agent_id, incidents.c.code == code, incidents.c.status == IncidentStatus.OPEN.value
        )
        row = self._connection.execute(query).one_or_none()
        return _incident(row) if row else None

    def add(self, incident: Incident) -> None:
        """Insert an incident."""
        self._connection.execute(insert(incidents), [asdict(incident)])

    def put(self, incident: Incident) -> None:
        """Store what has changed of an incident."""
        self._connection.execute(update(incidents).where(incidents.c.id == incident.id).values(asdict(incident)))

    def newest(self, *, status: IncidentStatus | None, before: Cursor | None, limit: int) -> list[Incident]:
        """Incidents before a cursor, newest first."""
        query = select(*_columns).order_by(incidents.c.ts_open.desc(), incidents.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(incidents.c.status == status.value)
        if before is not None:
            query = query.where(is_before(incidents.c.ts_open, incidents.c.id, before))
        return [_incident(row) for row in self._connection.execute(query)]


def _incident(row: Row[Any]) -> Incident:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
    return Incident(**{**fields, "status": IncidentStatus(fields["status"])})
