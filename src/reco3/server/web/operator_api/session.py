"""Log-in, log-out, the one-time set-up, and what a stranger may know before."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3 import __version__
from reco3.server.domain.errors import Forbidden, Unauthorized
from reco3.server.domain.operators import Operator, Role
from reco3.server.services.denials import Denial, DenialService
from reco3.server.services.operators import SESSION_LIFETIME, OpenedSession, OperatorService
from reco3.server.web.audiences import PUBLIC, operators, serves
from reco3.server.web.auth import SESSION_COOKIE, comes_from_loopback, headers_of, remote_of, session_token
from reco3.server.web.errors import json_answer


class LogIn(BaseModel):
    """What `POST /api/session` takes."""

    model_config = ConfigDict(strict=True)

    api_key: str = Field(max_length=500)


class SetUp(BaseModel):
    """What `POST /api/setup` takes."""

    model_config = ConfigDict(strict=True)

    token: str = Field(max_length=500)


def config_routes(people: OperatorService, *, test_mode: bool, require_approval: bool) -> APIRouter:
    """`/health` and `/api/config/test-mode`: all that a stranger may read."""
    router = APIRouter(tags=["config"])

    @router.get("/health")
    @serves(PUBLIC)
    async def health() -> Response:
        """Whether the server answers."""
        return json_answer({"status": "ok"})

    @router.get("/api/config/test-mode")
    @serves(PUBLIC)
    async def read_test_mode() -> Response:
        """The test mode's switches, and whether nobody can log in yet."""
        return json_answer(
            {
                "test_mode": test_mode,
                "require_approval": require_approval,
                "version": __version__,
                "locked": people.is_locked,
            }
        )

    return router


def session_routes(people: OperatorService, denials: DenialService) -> APIRouter:
    """`/api/session` and `/api/setup`."""
    router = APIRouter(tags=["session"])

    @router.get("/api/session")
    @serves(operators(Role.VIEWER))
    async def read_session(request: Request) -> Response:
        """Who is calling."""
        return json_answer(_operator_shape(request.state.caller))

    @router.post("/api/session")
    @serves(PUBLIC)
    async def log_in(request: Request, credentials: LogIn) -> Response:
        """Open a session for whoever holds an API key."""
        try:
            opened = await people.log_in(credentials.api_key, remote=remote_of(request.scope))
        except Unauthorized:
            await denials.record(Denial("auth_failed", "log-in", "", request.url.path))
            raise
        return _with_cookie(request, json_answer(_operator_shape(opened.operator)), opened)

    @router.delete("/api/session")
    @serves(operators(Role.VIEWER))
    async def log_out(request: Request) -> Response:
        """End the browser's session."""
        token = session_token(headers_of(request.scope))
        if token is not None:
            await people.log_out(token, request.state.caller)
        answer = json_answer({"status": "ok"})
        answer.delete_cookie(SESSION_COOKIE, path="/")
        return answer

    @router.post("/api/setup")
    @serves(PUBLIC)
    async def set_up(request: Request, new: SetUp) -> Response:
        """Create the administrator of a server that has nobody, once, from this machine."""
        if not comes_from_loopback(request.scope, headers_of(request.scope)):
            raise Forbidden("The set-up works from the server's own machine only.", code="setup_refused")
        completed = await people.set_up(new.token)
        content = {"name": completed.opened.operator.name, "api_key": completed.api_key}
        return _with_cookie(request, json_answer(content), completed.opened)

    return router


def _operator_shape(operator: Operator) -> dict[str, object]:
    return {"name": operator.name, "role": operator.role, "how": operator.method}


def _with_cookie(request: Request, answer: Response, opened: OpenedSession) -> Response:
    answer.set_cookie(
        SESSION_COOKIE,
        opened.token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https",
    )
    return answer
