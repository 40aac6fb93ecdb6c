"""The fleet: which one this server is."""

from fastapi import APIRouter
from starlette.responses import Response

from reco3.server.domain.operators import Role
from reco3.server.services.approvals import ApprovalService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer


def fleet_routes(approvals: ApprovalService) -> APIRouter:
    """`/api/fleet`."""
    router = APIRouter(tags=["fleet"])

    @router.get("/api/fleet")
    @serves(operators(Role.VIEWER))
    async def read_fleet() -> Response:
        """The fleet's id, which stands in every envelope and may be pinned on PCs."""
        return json_answer({"fleet_id": await approvals.open_fleet()})

    return router
