"""What stands before every endpoint: the body's cap, the caller's identity, the declared content type.

A route that declares no audience cannot be guarded, and so stops the server from starting.
"""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reco3.server.domain.errors import BadInput, TooLarge, UnsupportedMedia
from reco3.server.web.audiences import Audience, Kind, audience_of
from reco3.server.web.auth import SAFE_METHODS, Authenticator, headers_of, refuse_other_sites


class Guard:
    """One endpoint behind its audience."""

    def __init__(self, app: ASGIApp, audience: Audience, authenticator: Authenticator) -> None:
        self._app = app
        self._audience = audience
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its caller in `scope["state"]["caller"]`, or raise."""
        headers = headers_of(scope)
        _refuse_nul(scope)
        self._refuse_declared_size(headers.get("content-length"))
        await self._authenticate(scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if not has_body:
            await self._app(scope, receive, send)
            return
        if self._audience.kind is not Kind.AGENT:
            _require_json(headers.get("content-type", ""))
        body = await self._read_body(receive)
        await self._app(scope, _Replay(body, receive), send)

    async def _authenticate(self, scope: Scope) -> None:
        state = scope.setdefault("state", {})
        if self._audience.kind is Kind.AGENT:
            state["caller"] = await self._authenticator.agent(scope)
        elif self._audience.role is not None:
            state["caller"] = await self._authenticator.operator(scope, self._audience, self._audience.role)
        elif scope["method"] not in SAFE_METHODS:
            refuse_other_sites(scope, headers_of(scope))

    def _refuse_declared_size(self, content_length: str | None) -> None:
        if content_length is None:
            return
        if not content_length.isdigit():
            raise BadInput("Content-Length", "expected a number")
        if int(content_length) > self._audience.max_body_bytes:
            raise self._too_large()

    async def _read_body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadInput("body", "the connection closed before the body was complete")
            parts.append(message.get("body", b""))
            size_bytes += len(parts[-1])
            if size_bytes > self._audience.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body exceeds {self._audience.max_body_bytes} bytes; send less at once.")


class _Replay:
    """Gives a body that was read already to whoever reads it next."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The whole body first, then what the connection says."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def guard_routes(routes: Iterable[BaseRoute], authenticator: Authenticator) -> None:
    """Put every route behind its audience.

    Raises:
        TypeError: a route declares no audience.
    """
    for route in routes:
        if not isinstance(route, Route):
            raise TypeError(f"{route!r} is no plain route, so nothing can guard it")
        route.app = Guard(route.app, audience_of(route.endpoint), authenticator)


def _refuse_nul(scope: Scope) -> None:
    # PostgreSQL takes no NUL in text, and no id of ours has one.
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise BadInput("path", "expected an address without NUL")


def _require_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        shown = ascii(content_type)[1:-1][:60] or "nothing"
        raise UnsupportedMedia(f"Expected Content-Type: application/json, got {shown}.")
