"""Who is calling: an agent by its two headers, an operator by key, token, session or the test mode's loopback rule.

The two worlds never mix: an agent's headers never open an operator's route, nor the other way round.
"""

import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.types import Scope

from reco3.server.domain.errors import Forbidden, Unauthorized
from reco3.server.domain.keys import Site
from reco3.server.domain.operators import LoginMethod, Operator, Role, has_role, require_person, require_proof
from reco3.server.services.agent_keys import AgentKeyService
from reco3.server.services.denials import Denial, DenialService
from reco3.server.services.operators import OperatorService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import Audience

SESSION_COOKIE = "reco3_session"
SAFE_METHODS = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"})


class Authenticator:
    """Turns a request's headers into a caller, or refuses."""

    def __init__(
        self,
        agent_keys: AgentKeyService,
        operators: OperatorService,
        denials: DenialService,
        *,
        implicit_admin: bool,
        clock: Clock,
    ) -> None:
        self._agent_keys = agent_keys
        self._operators = operators
        self._denials = denials
        self._implicit_admin = implicit_admin
        self._clock = clock

    async def agent(self, scope: Scope) -> str:
        """The id of the PC that calls.

        Raises:
            Unauthorized: unknown id, wrong key or a missing header, all in one shape.
        """
        headers = headers_of(scope)
        agent_id, key = headers.get("x-agent-id", ""), headers.get("x-api-key", "")
        if self._agent_keys.is_valid(agent_id, key):
            return agent_id
        await self._denials.record(Denial("auth_failed", "agent key", agent_id, scope["path"]))
        raise Unauthorized

    async def operator(self, scope: Scope, audience: Audience, required: Role) -> Operator:
        """The operator who calls, if he holds the required role and is as sure to be himself as the audience needs.

        Raises:
            Unauthorized: nobody we know.
            Forbidden: another site's page sent this, the role is missing, or a fresh proof or a person is needed.
        """
        headers = headers_of(scope)
        refuse_other_sites(scope, headers)
        operator = await self._known_operator(scope, headers)
        if operator is None:
            await self._record_operator_denial(scope, headers)
            raise Unauthorized
        if operator.method is LoginMethod.SESSION and scope["method"] not in SAFE_METHODS:
            _require_browser_proof(headers)
        if not has_role(operator, required):
            await self._denials.record(Denial("access_denied", f"needs role {required}", operator.name, scope["path"]))
            raise Forbidden(f"This needs the role {required}; {operator.name} is {operator.role}.")
        if audience.needs_person:
            require_person(operator)
        if audience.needs_proof:
            require_proof(operator, self._clock())
        return operator

    async def _known_operator(self, scope: Scope, headers: Mapping[str, str]) -> Operator | None:
        if "x-agent-id" in headers:
            return None
        api_key = _presented_key(headers)
        if api_key is not None:
            return await self._operators.by_api_key(api_key, remote=remote_of(scope))
        token = session_token(headers)
        if token is not None and (operator := await self._operators.by_session(token)):
            return operator
        if self._implicit_admin and comes_from_loopback(scope, headers):
            return Operator("admin", Role.ADMIN, LoginMethod.TEST_MODE)
        return None

    async def _record_operator_denial(self, scope: Scope, headers: Mapping[str, str]) -> None:
        # A stranger without any credential is every first visit of the page, and no attack.
        if _presented_key(headers) is None and "x-agent-id" not in headers:
            return
        await self._denials.record(Denial("auth_failed", "operator key", headers.get("x-agent-id", ""), scope["path"]))


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name; of a repeated one the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def remote_of(scope: Scope) -> str:
    """The address that the connection came from; headers about it are never believed."""
    client = scope.get("client")
    return client[0] if client else ""


def site_of(scope: Scope) -> Site:
    """The address under which the caller has the page; the guard has compared `Origin` with the host.

    A script sends no `Origin`; then only the proxy knows whether the page is at https.
    """
    headers = headers_of(scope)
    host = headers.get("host", "").lower()
    scheme = "https" if headers.get("x-forwarded-proto") == "https" else scope["scheme"]
    return Site(headers.get("origin") or f"{scheme}://{host}", _host_name(host))


def session_token(headers: Mapping[str, str]) -> str | None:
    """The session token in the cookie, if there is one."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def comes_from_loopback(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether this machine itself calls, under a loopback name and through no proxy.

    The name matters: a page of another site can point its own name at 127.0.0.1 (DNS rebinding).
    """
    client = scope.get("client")
    if client is None or any(map(_tells_of_proxy, headers)):
        return False
    try:
        is_local = ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
    return is_local and _host_name(headers.get("host", "")) in _LOOPBACK_NAMES


def _tells_of_proxy(header: str) -> bool:
    return header in _PROXY_HEADERS or header.startswith("x-forwarded")


def refuse_other_sites(scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse what a page of another site sent (CSRF).

    Source: https://cheatsheetseries.owasp.org, Cross-Site Request Forgery Prevention, Fetch Metadata and Origin.

    Raises:
        Forbidden: the browser says that another site sent this.
    """
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("Requests from other sites are refused.", code="cross_site")
    origin = headers.get("origin")
    if origin is not None and origin not in _own_origins(scope, headers):
        raise Forbidden("Requests from other sites are refused.", code="cross_site")


def _own_origins(scope: Scope, headers: Mapping[str, str]) -> set[str]:
    host = headers.get("host", "")
    origins = {f"{scope['scheme']}://{host}"}
    if _host_name(host) not in _LOOPBACK_NAMES:
        # A TLS proxy in front speaks plain HTTP to us while the browser's page is https.
        origins.add(f"https://{host}")
    return origins


def _require_browser_proof(headers: Mapping[str, str]) -> None:
    if "origin" not in headers and "sec-fetch-site" not in headers:
        raise Forbidden("A session may only be used by its browser; scripts use X-API-Key.", code="cross_site")


def _presented_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


def _host_name(host: str) -> str:
    return host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
