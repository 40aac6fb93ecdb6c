"""Policies: what it takes to approve which command where."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.server.domain.operators import Role
from reco3.server.domain.policies import Policy, Terms
from reco3.server.services.policies import PolicyService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import time_text


class NewPolicy(BaseModel):
    """A policy as an administrator sets it; what is left out is the stricter usual."""

    model_config = ConfigDict(strict=True, extra="forbid")

    command_type: Annotated[str, Field(max_length=200)]
    agent_pattern: Annotated[str, Field(max_length=200)]
    approvals_required: int = 1
    four_eyes: bool = True
    reason_required: bool = False
    lifetime_s: int | None = None


def policy_routes(policies: PolicyService, clock: Clock) -> APIRouter:
    """`/api/policies`."""
    router = APIRouter(tags=["policies"])

    @router.get("/api/policies")
    @serves(operators(Role.VIEWER))
    async def list_policies() -> Response:
        """Every policy, and what holds where none does."""
        book = await policies.read()
        return json_answer(
            {
                "policies": [_policy_shape(policy) for policy in book.policies],
                "count": len(book.policies),
                "default": asdict(book.default),
                "now": time_text(clock()),
            }
        )

    @router.put("/api/policies")
    @serves(operators(Role.ADMIN, needs_proof=True))
    async def put_policy(request: Request, new: NewPolicy) -> Response:
        """Set the policy about one type and one pattern."""
        terms = Terms(new.approvals_required, new.four_eyes, new.reason_required, new.lifetime_s)
        policy = await policies.put(new.command_type, new.agent_pattern, terms, request.state.caller)
        return json_answer(_policy_shape(policy))

    @router.delete("/api/policies/{policy_id}")
    @serves(operators(Role.ADMIN, needs_proof=True))
    async def remove_policy(request: Request, policy_id: str) -> Response:
        """Remove a policy."""
        await policies.remove(policy_id, request.state.caller)
        return json_answer({"status": "removed"})

    return router


def _policy_shape(policy: Policy) -> dict[str, object]:
    return {
        "id": policy.id,
        "command_type": policy.command_type,
        "agent_pattern": policy.agent_pattern,
        **asdict(policy.terms),
        "updated_by": policy.updated_by,
        "updated_at": time_text(policy.updated_at),
    }
