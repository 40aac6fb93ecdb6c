"""Enrolment tokens, as administrators make them and take them back."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.enrolments import EnrolmentToken, status_of
from reco3.server.domain.operators import Role
from reco3.server.services.enrolments import EnrolmentService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import optional_time_text, time_text


class NewToken(BaseModel):
    """What `POST /api/enrolment-tokens` takes."""

    model_config = ConfigDict(strict=True)

    agent_id: Annotated[str, Field(max_length=200)] | None = None
    may_replace: bool = False


def enrolment_routes(enrolments: EnrolmentService, clock: Clock) -> APIRouter:
    """`/api/enrolment-tokens`."""
    router = APIRouter(tags=["enrolment"])

    @router.post("/api/enrolment-tokens")
    @serves(operators(Role.ADMIN, needs_proof=True))
    async def make_token(request: Request, new: NewToken | None = None) -> Response:
        """Make a token that lets one PC in, once, within a quarter of an hour; it is shown here and never again."""
        new = new or NewToken()
        made = await enrolments.make_token(request.state.caller, agent_id=new.agent_id, may_replace=new.may_replace)
        return json_answer({"token": made.text, **_token_shape(made.token, clock)})

    @router.get("/api/enrolment-tokens")
    @serves(operators(Role.ADMIN))
    async def list_tokens() -> Response:
        """The tokens of the last weeks, newest first, without their texts."""
        tokens = [_token_shape(token, clock) for token in await enrolments.tokens()]
        return json_answer({"tokens": tokens, "count": len(tokens), "now": time_text(clock())})

    @router.delete("/api/enrolment-tokens/{token_id}")
    @serves(operators(Role.ADMIN))
    async def revoke_token(request: Request, token_id: str) -> Response:
        """Take back a token that nobody has used."""
        await enrolments.revoke_token(token_id, request.state.caller)
        return json_answer({"status": "revoked"})

    return router


def _token_shape(token: EnrolmentToken, clock: Clock) -> dict[str, object]:
    return {
        "id": token.id,
        "agent_id": token.agent_id,
        "may_replace": token.may_replace,
        "status": status_of(token, clock()),
        "created_by": token.created_by,
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "used_at": optional_time_text(token.used_at),
        "used_by": token.used_by,
    }
