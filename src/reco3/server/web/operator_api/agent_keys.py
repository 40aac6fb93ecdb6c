"""A PC's key, as operators see it, end it, or say that one PC alone has it."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.agent_keys import AgentKey
from reco3.server.domain.commands import MAX_REASON_CHARS
from reco3.server.domain.operators import Role
from reco3.server.services.key_custody import KeyCustodyService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import optional_time_text, time_text


class WithReason(BaseModel):
    """What these orders must carry."""

    model_config = ConfigDict(strict=True)

    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON_CHARS, pattern=r"\S")]


def agent_key_routes(custody: KeyCustodyService, clock: Clock) -> APIRouter:
    """`/api/r3/agent/{agent_id}/key` and what may be done with it."""
    router = APIRouter(tags=["keys"])

    @router.get("/api/r3/agent/{agent_id}/key")
    @serves(operators(Role.VIEWER))
    async def read_key(agent_id: str) -> Response:
        """Where a PC's key came from, and whether it is good; never the key or its hash."""
        key = await custody.read(agent_id)
        return json_answer({"agent_id": agent_id, "key": key_shape(key), "now": time_text(clock())})

    @router.post("/api/r3/agent/{agent_id}/revoke-key")
    @serves(operators(Role.ADMIN))
    async def revoke_key(request: Request, agent_id: str, order: WithReason) -> Response:
        """End a PC's key at once, everywhere."""
        await custody.revoke(agent_id, request.state.caller, reason=order.reason)
        return json_answer({"status": "revoked"})

    @router.post("/api/r3/agent/{agent_id}/clear-clone")
    @serves(operators(Role.APPROVER, needs_proof=True))
    async def clear_clone(request: Request, agent_id: str, order: WithReason) -> Response:
        """Say that one PC alone has this key, so that strong commands are delivered to it again."""
        await custody.clear_clone(agent_id, request.state.caller, reason=order.reason)
        return json_answer({"status": "cleared"})

    return router


def key_shape(key: AgentKey) -> dict[str, object]:
    """A PC's key as operators see it."""
    return {
        "source": key.source,
        "created_at": time_text(key.created_at),
        "rotating": key.next_key_hash is not None,
        "revoked": key.is_revoked,
        "revoked_at": optional_time_text(key.revoked_at),
        "clone_suspected": key.clone_suspected_at is not None,
        "clone_suspected_at": optional_time_text(key.clone_suspected_at),
    }
