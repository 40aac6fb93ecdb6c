"""A PC's log lines, as operators read them."""

import json
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from reco3.server.domain.logs import LogLine
from reco3.server.domain.operators import Role
from reco3.server.services.logs import LogService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import parse_row_cursor, time_text


def log_routes(logs: LogService, clock: Clock) -> APIRouter:
    """`/api/r3/agent/<id>/logs`."""
    router = APIRouter(tags=["logs"])

    @router.get("/api/r3/agent/{agent_id}/logs")
    @serves(operators(Role.VIEWER))
    async def newest_lines(
        agent_id: str, limit: Annotated[int, Query(ge=1, le=500)] = 100, cursor: str | None = None
    ) -> Response:
        """A PC's ERROR, WARN and CRITICAL lines, newest first."""
        lines = await logs.newest_lines(agent_id, before_id=parse_row_cursor(cursor), limit=limit)
        return json_answer(
            {
                "logs": [_line_shape(line) for line in lines],
                "count": len(lines),
                "next_cursor": str(lines[-1].id) if len(lines) == limit else None,
                "now": time_text(clock()),
            }
        )

    return router


def _line_shape(line: LogLine) -> dict[str, object]:
    return {
        "id": line.id,
        "agent_id": line.agent_id,
        "ts": time_text(line.ts),
        "level": line.level,
        "code": line.code,
        "msg": line.msg,
        "meta_json": json.dumps(line.meta),
        "created_at": time_text(line.created_at),
    }
