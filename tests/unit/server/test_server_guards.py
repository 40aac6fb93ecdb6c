"""A route that declares no audience cannot be served."""

import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from reco3.protocol.limits import MAX_BODY_BYTES, MAX_LOGS_BODY_BYTES
from reco3.server.domain.operators import Role
from reco3.server.web.agent_api import LOGS_AUDIENCE
from reco3.server.web.audiences import AGENT, PUBLIC, Kind, audience_of, operators, serves
from reco3.server.web.auth import Authenticator
from reco3.server.web.guards import guard_routes


async def endpoint(_request: Request) -> Response:
    return Response("open to everybody")


def guarded(route: BaseRoute) -> None:
    guard_routes([route], Authenticator.__new__(Authenticator))


def test_a_route_without_a_declared_audience_is_refused() -> None:
    with pytest.raises(TypeError, match="declares no audience"):
        guarded(Route("/new", endpoint))


def test_a_fastapi_route_without_a_declared_audience_is_refused() -> None:
    router = APIRouter()
    router.get("/new")(endpoint)

    with pytest.raises(TypeError, match="declares no audience"):
        guarded(router.routes[0])


def test_a_mount_is_refused_because_nothing_can_guard_what_is_inside() -> None:
    with pytest.raises(TypeError, match="nothing can guard"):
        guarded(Mount("/static", routes=[Route("/x", endpoint)]))


def test_a_route_with_an_audience_is_taken() -> None:
    @serves(PUBLIC)
    async def declared(_request: Request) -> Response:
        return Response("open to everybody")

    guarded(Route("/new", declared))

    assert audience_of(declared) is PUBLIC


def test_an_audience_of_another_kind_of_value_does_not_count() -> None:
    def pretender() -> None: ...

    pretender.audience = "public"  # type: ignore[attr-defined]

    with pytest.raises(TypeError):
        audience_of(pretender)


def test_only_log_batches_may_be_larger_than_a_mebibyte() -> None:
    assert LOGS_AUDIENCE.max_body_bytes == MAX_LOGS_BODY_BYTES == 4 * 1024 * 1024
    for audience in (PUBLIC, AGENT, operators(Role.ADMIN)):
        assert audience.max_body_bytes == MAX_BODY_BYTES == 1024 * 1024


def test_an_operators_audience_always_names_a_role() -> None:
    assert all(operators(role).kind is Kind.OPERATOR and operators(role).role is role for role in Role)
