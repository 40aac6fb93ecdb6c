"""One's own open sessions: list them, end one."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.operators import Role, Session
from reco3.server.services.sessions import SessionService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.auth import headers_of, session_token
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import optional_time_text, time_text


def sessions_routes(sessions: SessionService) -> APIRouter:
    """`/api/sessions`."""
    router = APIRouter(tags=["session"])

    @router.get("/api/sessions")
    @serves(operators(Role.VIEWER))
    async def own_sessions(request: Request) -> Response:
        """The caller's open sessions, newest first."""
        token = session_token(headers_of(request.scope))
        current = sessions.hash(token) if token is not None else None
        found = await sessions.of(request.state.caller)
        return json_answer({"sessions": [_shape(one, current) for one in found], "count": len(found)})

    @router.delete("/api/sessions/{session_id}")
    @serves(operators(Role.VIEWER, needs_person=True))
    async def revoke_session(request: Request, session_id: str) -> Response:
        """End one of the caller's sessions, such as on a lost phone."""
        await sessions.revoke(session_id, request.state.caller)
        return json_answer({"status": "ok"})

    return router


def _shape(session: Session, current: str | None) -> dict[str, object]:
    return {
        "id": session.id,
        "created_at": time_text(session.created_at),
        "expires_at": time_text(session.expires_at),
        "proved_at": optional_time_text(session.proved_at),
        "current": session.token_hash == current,
    }
