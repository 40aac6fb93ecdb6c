"""The ASGI application: agents on plain routes, operators on FastAPI, everything behind a guard."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reco3 import __version__
from reco3.server.domain.operators import Role
from reco3.server.services.accounts import AccountService
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.agents import AgentService
from reco3.server.services.approvals import ApprovalService
from reco3.server.services.audit import AuditService
from reco3.server.services.break_glass import BreakGlassService
from reco3.server.services.commands import CommandService
from reco3.server.services.deliveries import DeliveryService
from reco3.server.services.denials import DenialService
from reco3.server.services.enrolments import EnrolmentService
from reco3.server.services.history import HistoryService
from reco3.server.services.incidents import IncidentService
from reco3.server.services.key_custody import KeyCustodyService
from reco3.server.services.keys import KeyService
from reco3.server.services.logs import LogService
from reco3.server.services.operators import OperatorService
from reco3.server.services.passkeys import PasskeyService
from reco3.server.services.policies import PolicyService
from reco3.server.services.ports import Clock
from reco3.server.services.reports import ReportService
from reco3.server.services.tokens import TokenService
from reco3.server.services.trust_changes import TrustChangeService
from reco3.server.web.agent_api import AgentApi, AgentServices
from reco3.server.web.audiences import operators, serves
from reco3.server.web.auth import Authenticator
from reco3.server.web.connections import Crowd
from reco3.server.web.enrol_api import EnrolApi
from reco3.server.web.errors import exception_handlers, json_answer
from reco3.server.web.guards import guard_routes
from reco3.server.web.live import LiveHub
from reco3.server.web.openapi import with_agent_paths
from reco3.server.web.operator_api.accounts import account_routes
from reco3.server.web.operator_api.agent_keys import agent_key_routes
from reco3.server.web.operator_api.agents import agent_routes
from reco3.server.web.operator_api.approvals import approval_routes
from reco3.server.web.operator_api.audit import audit_routes
from reco3.server.web.operator_api.break_glass import break_glass_routes
from reco3.server.web.operator_api.commands import command_routes
from reco3.server.web.operator_api.enrolments import enrolment_routes
from reco3.server.web.operator_api.fleet import fleet_routes
from reco3.server.web.operator_api.incidents import incident_routes
from reco3.server.web.operator_api.keys import key_routes
from reco3.server.web.operator_api.logs import log_routes
from reco3.server.web.operator_api.policies import policy_routes
from reco3.server.web.operator_api.session import config_routes, session_routes
from reco3.server.web.operator_api.sessions import sessions_routes
from reco3.server.web.operator_api.tokens import token_routes
from reco3.server.web.operator_api.trust_changes import trust_change_routes
from reco3.server.web.pages import page_routes

Lifespan = Callable[[object], AbstractAsyncContextManager[None]]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types reco3"
)
_security_headers: list[tuple[bytes, bytes]] = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]


@dataclass(frozen=True, slots=True)
class Services:
    """Every use case that the web can call."""

    agents: AgentService
    history: HistoryService
    logs: LogService
    commands: CommandService
    approvals: ApprovalService
    policies: PolicyService
    break_glass: BreakGlassService
    deliveries: DeliveryService
    reports: ReportService
    incidents: IncidentService
    audit: AuditService
    operators: OperatorService
    accounts: AccountService
    passkeys: PasskeyService
    operator_keys: KeyService
    tokens: TokenService
    denials: DenialService
    agent_keys: AgentKeyService
    enrolments: EnrolmentService
    key_custody: KeyCustodyService
    trust_changes: TrustChangeService


@dataclass(frozen=True, slots=True)
class WebOptions:
    """What the web tells strangers, and how many connections it may hold."""

    test_mode: bool
    require_approval: bool
    crowd: Crowd


def build_app(
    services: Services,
    live: LiveHub,
    authenticator: Authenticator,
    *,
    options: WebOptions,
    clock: Clock,
    lifespan: Lifespan,
) -> ASGIApp:
    """The whole application.

    Raises:
        TypeError: a route declares no audience.
    """
    agent_services = AgentServices(
        services.agents, services.logs, services.deliveries, services.reports, services.trust_changes
    )
    enrol_api = EnrolApi(services.enrolments, services.agent_keys, services.denials)
    routes = [*AgentApi(agent_services, options.crowd, clock).routes(), *enrol_api.routes()]
    agent_app = _agent_app(routes, authenticator)
    operator_app = _operator_app(_routers(services, live, options, clock), authenticator, lifespan)
    return _FrontDoor(agent_app, operator_app)


def _routers(services: Services, live: LiveHub, options: WebOptions, clock: Clock) -> list[APIRouter]:
    return [
        config_routes(services.operators, test_mode=options.test_mode, require_approval=options.require_approval),
        session_routes(services.operators, services.passkeys, services.denials),
        sessions_routes(services.operators.sessions),
        account_routes(services.accounts),
        key_routes(services.operator_keys),
        token_routes(services.tokens),
        agent_routes(services.agents, services.history, clock),
        agent_key_routes(services.key_custody, clock),
        enrolment_routes(services.enrolments, clock),
        log_routes(services.logs, clock),
        command_routes(services.commands, services.approvals, services.reports, clock),
        approval_routes(services.commands, services.approvals, clock),
        policy_routes(services.policies, clock),
        break_glass_routes(services.break_glass, clock),
        trust_change_routes(services.trust_changes, clock),
        fleet_routes(services.approvals),
        incident_routes(services.incidents, clock),
        audit_routes(services.audit, clock),
        live.routes(),
        page_routes(),
    ]


def _agent_app(routes: list[Route], authenticator: Authenticator) -> Starlette:
    guard_routes(routes, authenticator)
    app = Starlette(routes=routes, exception_handlers=exception_handlers)
    # A redirect would repeat whatever the Host header says.
    app.router.redirect_slashes = False
    return app


def _operator_app(routers: list[APIRouter], authenticator: Authenticator, lifespan: Lifespan) -> FastAPI:
    app = FastAPI(
        title="RECO3",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        max_body_size=None,
        redirect_slashes=False,
        exception_handlers=exception_handlers,  # type: ignore[arg-type]
        lifespan=lifespan,
    )

    @app.get("/api/openapi.json", include_in_schema=False)
    @serves(operators(Role.VIEWER))
    async def openapi() -> Response:
        return json_answer(with_agent_paths(app.openapi()))

    for router in routers:
        app.router.routes.extend(router.routes)
    guard_routes(app.router.routes, authenticator)
    return app


class _FrontDoor:
    """Agents to the quick routes, everybody else to FastAPI with the browser's security headers."""

    def __init__(self, agent_app: ASGIApp, operator_app: ASGIApp) -> None:
        self._agent_app = agent_app
        self._operator_app = operator_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose by the path alone; what each side lets in is decided by its routes."""
        if scope["type"] == "http" and scope["path"].startswith("/agent/"):
            await self._agent_app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_security_headers]
            await send(message)

        await self._operator_app(scope, receive, send_with_headers)
