"""Incidents: list and close."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.incidents import Incident, IncidentStatus
from reco3.server.domain.operators import Role
from reco3.server.services.incidents import IncidentService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import cursor_text, optional_time_text, parse_cursor, time_text


def incident_routes(incidents: IncidentService, clock: Clock) -> APIRouter:
    """`/api/incidents`."""
    router = APIRouter(tags=["incidents"])

    @router.get("/api/incidents")
    @serves(operators(Role.VIEWER))
    async def newest_incidents(
        status: Literal["open", "closed", "all"] = "all",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Incidents, newest first."""
        wanted = None if status == "all" else IncidentStatus(status)
        found = await incidents.newest(status=wanted, before=parse_cursor(cursor), limit=limit)
        last = found[-1] if len(found) == limit else None
        return json_answer(
            {
                "incidents": [_incident_shape(incident) for incident in found],
                "count": len(found),
                "next_cursor": cursor_text(last.ts_open, last.id) if last else None,
                "now": time_text(clock()),
            }
        )

    @router.post("/api/incidents/{incident_id}/close")
    @serves(operators(Role.OPERATOR))
    async def close_incident(request: Request, incident_id: str) -> Response:
        """Close an incident."""
        await incidents.close(incident_id, request.state.caller)
        return json_answer({"status": "closed"})

    return router


def _incident_shape(incident: Incident) -> dict[str, object]:
    return {
        "id": incident.id,
        "ts_open": time_text(incident.ts_open),
        "ts_close": optional_time_text(incident.ts_close),
        "severity": incident.severity,
        "title": incident.title,
        "summary": incident.summary,
        "status": incident.status,
        "agent_id": incident.agent_id,
        "code": incident.code,
        "count": incident.count,
        "last_seen_at": time_text(incident.last_seen_at),
        "closed_by": incident.closed_by,
    }
