"""The command queue: list, request, approve."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.limits import MAX_PAYLOAD_BYTES
from reco3.server.domain.commands import Command
from reco3.server.domain.errors import BadInput
from reco3.server.domain.operators import LoginMethod, Operator, Role
from reco3.server.services.commands import CommandRequest, CommandService
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import approval_shape, cursor_text, optional_time_text, parse_cursor, time_text


class NewCommand(BaseModel):
    """What `POST /api/agent-commands` takes."""

    model_config = ConfigDict(strict=True)

    agent_id: str = Field(max_length=200)
    type: str = Field(max_length=200)
    payload: dict[str, Any] = Field(default_factory=dict)


class NewApproval(BaseModel):
    """What an approval may carry; `approved_by` counts only for the test mode's implicit admin."""

    model_config = ConfigDict(strict=True)

    approved_by: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@ -]+$")] | None = None


def command_routes(commands: CommandService, clock: Clock) -> APIRouter:
    """`/api/agent-commands`."""
    router = APIRouter(tags=["commands"])

    @router.get("/api/agent-commands")
    @serves(operators(Role.VIEWER))
    async def newest_commands(
        agent_id: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100, cursor: str | None = None
    ) -> Response:
        """Commands with their approvals and results, newest first."""
        found = await commands.newest(agent_id=agent_id, before=parse_cursor(cursor), limit=limit)
        last = found[-1] if len(found) == limit else None
        return json_answer(
            {
                "commands": [command_shape(command) for command in found],
                "count": len(found),
                "next_cursor": cursor_text(last.ts, last.id) if last else None,
                "now": time_text(clock()),
            }
        )

    @router.post("/api/agent-commands")
    @serves(operators(Role.OPERATOR))
    async def request_command(request: Request, new: NewCommand) -> Response:
        """Queue a command for a PC."""
        if len(json.dumps(new.payload)) > MAX_PAYLOAD_BYTES:
            raise BadInput("payload", f"expected at most {MAX_PAYLOAD_BYTES} bytes of JSON", code="bad_payload")
        asked = CommandRequest(new.agent_id, new.type, new.payload)
        command = await commands.request(asked, request.state.caller)
        return json_answer({"id": command.id, "status": "created"})

    @router.post("/api/agent-commands/{command_id}/approve")
    @serves(operators(Role.APPROVER))
    async def approve_command(request: Request, command_id: str, new: NewApproval | None = None) -> Response:
        """Say yes to a strong command."""
        approval = await commands.approve(command_id, _approver(request.state.caller, new))
        return json_answer({"approval_id": approval.id, "status": "approved"})

    return router


def command_shape(command: Command) -> dict[str, object]:
    """A command as operators see it."""
    return {
        "id": command.id,
        "agent_id": command.agent_id,
        "ts": time_text(command.ts),
        "type": command.type,
        "strength": command.strength,
        "payload": json.loads(command.payload_json),
        "payload_json": command.payload_json,
        "status": command.status,
        "result": json.loads(command.result_json) if command.result_json else None,
        "result_json": command.result_json,
        "needs_approval": command.needs_approval,
        "approved": command.approval is not None,
        "approval": approval_shape(command.approval),
        "created_by": command.created_by,
        "delivered_at": optional_time_text(command.delivered_at),
        "started_at": optional_time_text(command.started_at),
        "finished_at": optional_time_text(command.finished_at),
    }


def _approver(caller: Operator, new: NewApproval | None) -> Operator:
    if caller.method is LoginMethod.TEST_MODE and new is not None and new.approved_by is not None:
        return Operator(new.approved_by, caller.role, caller.method)
    return caller
