"""Break-glass: uses of sealed commands, and their review."""

import json
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.break_glass import MAX_REVIEW_CHARS, BreakGlassUse
from reco3.server.domain.operators import Role
from reco3.server.services.break_glass import BreakGlassService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.fields import NOT_BLANK
from reco3.server.web.shapes import cursor_text, optional_time_text, parse_cursor, time_text


class Review(BaseModel):
    """What a review must carry."""

    model_config = ConfigDict(strict=True)

    review: Annotated[str, Field(min_length=1, max_length=MAX_REVIEW_CHARS, pattern=NOT_BLANK)]


def break_glass_routes(break_glass: BreakGlassService, clock: Clock) -> APIRouter:
    """`/api/break-glass`."""
    router = APIRouter(tags=["break-glass"])

    @router.get("/api/break-glass")
    @serves(operators(Role.VIEWER))
    async def newest_uses(limit: Annotated[int, Query(ge=1, le=500)] = 100, cursor: str | None = None) -> Response:
        """Uses of sealed commands, those told last first."""
        found = await break_glass.newest(before=parse_cursor(cursor), limit=limit)
        last = found[-1] if len(found) == limit else None
        return json_answer(
            {
                "break_glass": [_use_shape(use) for use in found],
                "count": len(found),
                "next_cursor": cursor_text(last.reported_at, last.id) if last else None,
                "now": time_text(clock()),
            }
        )

    @router.post("/api/break-glass/{use_id}/review")
    @serves(operators(Role.APPROVER, needs_proof=True))
    async def review_use(request: Request, use_id: str, new: Review) -> Response:
        """Record what a person found out about a use."""
        return json_answer(_use_shape(await break_glass.review(use_id, request.state.caller, review=new.review)))

    return router


def _use_shape(use: BreakGlassUse) -> dict[str, object]:
    return {
        "id": use.id,
        "agent_id": use.agent_id,
        "command_type": use.command_type,
        "payload": json.loads(use.payload_json),
        "owners": list(use.owners),
        "used_at": time_text(use.used_at),
        "reported_at": time_text(use.reported_at),
        "result": json.loads(use.result_json),
        "reviewed_by": use.reviewed_by,
        "reviewed_at": optional_time_text(use.reviewed_at),
        "review": use.review,
    }
