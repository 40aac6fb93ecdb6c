"""The audit log, as operators read it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from reco3.server.domain.audit import RecordedEvent
from reco3.server.domain.operators import Role
from reco3.server.services.audit import AuditService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import parse_row_cursor, time_text


def audit_routes(audit: AuditService, clock: Clock) -> APIRouter:
    """`/api/audit`."""
    router = APIRouter(tags=["audit"])

    @router.get("/api/audit")
    @serves(operators(Role.AUDITOR))
    async def newest_events(
        event_type: str | None = None,
        actor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Audit rows, newest first."""
        found = await audit.newest(event_type=event_type, actor=actor, before_id=parse_row_cursor(cursor), limit=limit)
        return json_answer(
            {
                "events": [_event_shape(recorded) for recorded in found],
                "count": len(found),
                "next_cursor": str(found[-1].id) if len(found) == limit else None,
                "now": time_text(clock()),
            }
        )

    return router


def _event_shape(recorded: RecordedEvent) -> dict[str, object]:
    event = recorded.event
    return {
        "id": recorded.id,
        "ts": time_text(event.ts),
        "actor": event.actor,
        "event_type": event.event_type,
        "ref_id": event.ref_id,
        "agent_id": event.agent_id,
        "payload": dict(event.payload),
    }
