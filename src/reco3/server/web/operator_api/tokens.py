"""API tokens of one's own: make, list, revoke."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.operators import Role
from reco3.server.domain.tokens import MAX_DAYS, MAX_NAME_CHARS, ApiToken
from reco3.server.services.tokens import NewToken, TokenService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import optional_time_text, time_text


class NewTokenBody(BaseModel):
    """What `POST /api/tokens` takes."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"\S")]
    role: Role
    expires_in_days: Annotated[int, Field(strict=True, ge=1, le=MAX_DAYS)]


def token_routes(tokens: TokenService) -> APIRouter:
    """`/api/tokens`."""
    router = APIRouter(tags=["tokens"])

    @router.get("/api/tokens")
    @serves(operators(Role.VIEWER))
    async def own_tokens(request: Request) -> Response:
        """The caller's tokens, newest first; never their text."""
        found = await tokens.of(request.state.caller)
        return json_answer({"tokens": [_shape(token) for token in found], "count": len(found)})

    @router.post("/api/tokens")
    @serves(operators(Role.VIEWER, needs_proof=True, needs_person=True))
    async def make_token(request: Request, new: NewTokenBody) -> Response:
        """Make a token for a script; its text is shown this once."""
        wish = NewToken(new.name, new.role, timedelta(days=new.expires_in_days))
        made = await tokens.make(wish, request.state.caller)
        return json_answer({**_shape(made.token), "token": made.text})

    @router.delete("/api/tokens/{token_id}")
    @serves(operators(Role.VIEWER, needs_proof=True, needs_person=True))
    async def revoke_token(request: Request, token_id: str) -> Response:
        """Make a token of one's own void."""
        await tokens.revoke(token_id, request.state.caller)
        return json_answer({"status": "ok"})

    return router


def _shape(token: ApiToken) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "last_used_at": optional_time_text(token.last_used_at),
    }
