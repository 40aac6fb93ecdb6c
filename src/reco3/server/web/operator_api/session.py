"""Log-in, log-out, the proof that it is still you, the one-time set-up, and what a stranger may know before."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3 import __version__
from reco3.server.domain.errors import BadInput, Forbidden, Unauthorized
from reco3.server.domain.operators import Operator, Role
from reco3.server.services.ceremonies import TIMEOUT_MS
from reco3.server.services.denials import Denial, DenialService
from reco3.server.services.operators import OperatorService
from reco3.server.services.passkeys import PasskeyService
from reco3.server.services.sessions import OpenedSession
from reco3.server.web.audiences import PUBLIC, operators, serves
from reco3.server.web.auth import (
    SESSION_COOKIE,
    comes_from_loopback,
    headers_of,
    remote_of,
    session_token,
    site_of,
)
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.credentials import AssertionBody, operator_shape, proof_shape, with_cookie


class LogIn(BaseModel):
    """What `POST /api/session` takes: an API key, or a name and a password."""

    model_config = ConfigDict(strict=True)

    api_key: str | None = Field(default=None, max_length=500)
    name: str | None = Field(default=None, max_length=64)
    password: str | None = Field(default=None, max_length=500)


class PasskeyLogIn(BaseModel):
    """What `POST /api/session/passkey` takes."""

    model_config = ConfigDict(strict=True)

    assertion: AssertionBody


class Proof(BaseModel):
    """What `POST /api/session/proof` takes: one of these."""

    model_config = ConfigDict(strict=True)

    password: str | None = Field(default=None, max_length=500)
    api_key: str | None = Field(default=None, max_length=500)
    assertion: AssertionBody | None = None


class SetUp(BaseModel):
    """What `POST /api/setup` takes."""

    model_config = ConfigDict(strict=True)

    token: str = Field(max_length=500)
    password: str | None = Field(default=None, max_length=500)


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


def session_routes(people: OperatorService, passkeys: PasskeyService, denials: DenialService) -> APIRouter:
    """`/api/session` and `/api/setup`."""
    router = APIRouter(tags=["session"])
    _add_log_in(router, people, denials)
    _add_passkey_log_in(router, passkeys, denials)
    _add_own_session(router, people)
    _add_proof(router, people, passkeys, denials)
    _add_set_up(router, people)
    return router


def _add_log_in(router: APIRouter, people: OperatorService, denials: DenialService) -> None:
    @router.post("/api/session")
    @serves(PUBLIC)
    async def log_in(request: Request, credentials: LogIn) -> Response:
        """Open a session for whoever holds an API key, or knows the password of an account."""
        try:
            opened = await _opened(people, credentials, remote=remote_of(request.scope))
        except Unauthorized:
            await denials.record(Denial("auth_failed", "log-in", credentials.name or "", request.url.path))
            raise
        return with_cookie(request, json_answer(operator_shape(opened.operator)), opened)


def _add_passkey_log_in(router: APIRouter, passkeys: PasskeyService, denials: DenialService) -> None:
    @router.post("/api/session/passkey/options")
    @serves(PUBLIC)
    async def passkey_options(request: Request) -> Response:
        """A challenge for any passkey of this site, to log in or to prove that it is still you."""
        site = site_of(request.scope)
        content = {
            "challenge": passkeys.challenge(site),
            "rpId": site.require_rp_id(),
            "timeout": TIMEOUT_MS,
            "allowCredentials": [],
            "userVerification": "required",
        }
        return json_answer(content)

    @router.post("/api/session/passkey")
    @serves(PUBLIC)
    async def log_in_with_passkey(request: Request, credentials: PasskeyLogIn) -> Response:
        """Open a session for the person whose passkey signed the challenge."""
        try:
            opened = await passkeys.log_in(credentials.assertion.parsed())
        except Unauthorized:
            await denials.record(Denial("auth_failed", "passkey", "", request.url.path))
            raise
        return with_cookie(request, json_answer(operator_shape(opened.operator)), opened)


def _add_own_session(router: APIRouter, people: OperatorService) -> None:
    @router.get("/api/session")
    @serves(operators(Role.VIEWER))
    async def read_session(request: Request) -> Response:
        """Who is calling."""
        return json_answer({**operator_shape(request.state.caller), **proof_shape(request.state.caller)})

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


def _add_proof(router: APIRouter, people: OperatorService, passkeys: PasskeyService, denials: DenialService) -> None:
    @router.post("/api/session/proof")
    @serves(operators(Role.VIEWER))
    async def prove(request: Request, proof: Proof) -> Response:
        """Prove that it is still you; for the next five minutes the session may do what needs that."""
        caller: Operator = request.state.caller
        token = session_token(headers_of(request.scope))
        remote = remote_of(request.scope)
        try:
            if proof.password is not None:
                proved = await people.prove_by_password(caller, token, proof.password, remote=remote)
            elif proof.api_key is not None:
                proved = await people.prove_by_api_key(caller, token, proof.api_key, remote=remote)
            elif proof.assertion is not None:
                proved = await passkeys.prove(caller, token, proof.assertion.parsed())
            else:
                raise BadInput("body", "expected password, api_key or assertion")
        except Forbidden:
            await denials.record(Denial("auth_failed", "proof", caller.name, request.url.path))
            raise
        return json_answer(proof_shape(proved))


def _add_set_up(router: APIRouter, people: OperatorService) -> None:
    @router.post("/api/setup")
    @serves(PUBLIC)
    async def set_up(request: Request, new: SetUp) -> Response:
        """Create the administrator of a server that has nobody, once, from this machine."""
        if not comes_from_loopback(request.scope, headers_of(request.scope)):
            raise Forbidden("The set-up works from the server's own machine only.", code="setup_refused")
        completed = await people.set_up(new.token, password=new.password)
        content = {"name": completed.opened.operator.name, "api_key": completed.api_key}
        return with_cookie(request, json_answer(content), completed.opened)


async def _opened(people: OperatorService, credentials: LogIn, *, remote: str) -> OpenedSession:
    if credentials.api_key is not None:
        return await people.log_in(credentials.api_key, remote=remote)
    if credentials.name is None:
        raise BadInput("api_key", "expected api_key, or name and password")
    if credentials.password is None:
        raise BadInput("password", "expected the password of this name")
    return await people.log_in_with_password(credentials.name.strip().lower(), credentials.password, remote=remote)
