"""The command queue: list, look at, request, approve, cancel, resolve."""

import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.limits import MAX_PAYLOAD_BYTES
from reco3.server.domain.approvals import PcTrust
from reco3.server.domain.commands import (
    MAX_LIFETIME_S,
    MIN_LIFETIME_S,
    Command,
    CommandStatus,
    Outcome,
    RecordedReport,
)
from reco3.server.domain.errors import BadInput
from reco3.server.domain.operators import Role
from reco3.server.services.approvals import ApprovalService
from reco3.server.services.commands import CommandFilter, CommandRequest, CommandService
from reco3.server.services.ports import Clock
from reco3.server.services.reports import ReportService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.fields import Reason
from reco3.server.web.operator_api.timelines import timeline_shape
from reco3.server.web.shapes import (
    approval_shape,
    comment_shape,
    cursor_text,
    expectation_shape,
    optional_time_text,
    parse_cursor,
    parse_row_cursor,
    resolution_shape,
    time_text,
)


class NewCommand(BaseModel):
    """What `POST /api/agent-commands` takes."""

    model_config = ConfigDict(strict=True)

    agent_id: str = Field(max_length=200)
    type: str = Field(max_length=200)
    payload: dict[str, Any] = Field(default_factory=dict)
    reason: Reason | None = None
    expires_in_s: Annotated[int, Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)] | None = None


class Cancellation(BaseModel):
    """What a cancellation may carry."""

    model_config = ConfigDict(strict=True)

    reason: Reason | None = None


class NewResolution(BaseModel):
    """What a resolution must carry."""

    outcome: Outcome
    reason: Reason


def command_routes(
    commands: CommandService, approvals: ApprovalService, reports: ReportService, clock: Clock
) -> APIRouter:
    """`/api/agent-commands` and `/api/orphan-reports`."""
    router = APIRouter(tags=["commands"])
    _add_reading(router, commands, approvals, clock)
    _add_orphans(router, reports, clock)
    _add_asking(router, commands)
    _add_ending(router, commands)
    return router


def command_shape(command: Command, trust: PcTrust) -> dict[str, object]:
    """A command as operators see it, with what its PC says of approvals."""
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
        "approved": command.approval is not None and command.is_approved,
        "approval": approval_shape(command.approval),
        "approvals": [approval_shape(approval) for approval in command.approvals],
        "approvals_required": command.approvals_required,
        "four_eyes": command.four_eyes,
        "is_verified_by_pc": trust.verifies if command.needs_approval else None,
        "rejected_by": command.rejected_by,
        "rejection_reason": command.rejection_reason,
        "created_by": command.created_by,
        "reason": command.reason,
        "expires_at": time_text(command.expires_at),
        "delivered_at": optional_time_text(command.delivered_at),
        "delivery_count": command.delivery_count,
        "accepted_at": optional_time_text(command.accepted_at),
        "started_at": optional_time_text(command.started_at),
        "finished_at": optional_time_text(command.finished_at),
        "cancel_requested_at": optional_time_text(command.cancel_requested_at),
        "expect": expectation_shape(command.expectation),
        "resolution": resolution_shape(command.resolution),
    }


def _add_reading(router: APIRouter, commands: CommandService, approvals: ApprovalService, clock: Clock) -> None:
    @router.get("/api/agent-commands")
    @serves(operators(Role.VIEWER))
    async def newest_commands(
        agent_id: str | None = None,
        status: str | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Commands with their approvals and results, newest first; `status` is a list such as `pending,unknown`."""
        wanted = CommandFilter(agent_id, _statuses(status))
        found = await commands.newest(wanted, before=parse_cursor(cursor), limit=limit)
        trusts = await approvals.trusts({one.agent_id for one in found if one.needs_approval})
        last = found[-1] if len(found) == limit else None
        return json_answer(
            {
                "commands": [command_shape(one, trusts.get(one.agent_id, PcTrust())) for one in found],
                "count": len(found),
                "next_cursor": cursor_text(last.ts, last.id) if last else None,
                "now": time_text(clock()),
            }
        )

    @router.get("/api/agent-commands/{command_id}")
    @serves(operators(Role.VIEWER))
    async def read_command(command_id: str) -> Response:
        """One command with its timeline and every report about it."""
        life = await commands.life(command_id)
        content = {
            **command_shape(life.command, life.trust),
            "timeline": timeline_shape(life.events),
            "reports": [_report_shape(report) for report in life.reports],
            "comments": [comment_shape(comment) for comment in life.comments],
            "now": time_text(clock()),
        }
        return json_answer(content)


def _add_orphans(router: APIRouter, reports: ReportService, clock: Clock) -> None:
    @router.get("/api/orphan-reports")
    @serves(operators(Role.VIEWER))
    async def orphan_reports(limit: Annotated[int, Query(ge=1, le=500)] = 100, cursor: str | None = None) -> Response:
        """Reports of commands that this server does not know, such as after a restored backup."""
        found = await reports.orphans(before_id=parse_row_cursor(cursor), limit=limit)
        return json_answer(
            {
                "orphan_reports": [_orphan_shape(report) for report in found],
                "count": len(found),
                "next_cursor": str(found[-1].id) if len(found) == limit else None,
                "now": time_text(clock()),
            }
        )


def _add_asking(router: APIRouter, commands: CommandService) -> None:
    @router.post("/api/agent-commands")
    @serves(operators(Role.OPERATOR))
    async def request_command(request: Request, new: NewCommand) -> Response:
        """Queue a command for a PC."""
        if len(json.dumps(new.payload)) > MAX_PAYLOAD_BYTES:
            raise BadInput("payload", f"expected at most {MAX_PAYLOAD_BYTES} bytes of JSON", code="bad_payload")
        lifetime = None if new.expires_in_s is None else timedelta(seconds=new.expires_in_s)
        asked = CommandRequest(new.agent_id, new.type, new.payload, new.reason, lifetime)
        command = await commands.request(asked, request.state.caller)
        return json_answer({"id": command.id, "status": "created"})


def _add_ending(router: APIRouter, commands: CommandService) -> None:
    @router.post("/api/agent-commands/{command_id}/cancel")
    @serves(operators(Role.OPERATOR))
    async def cancel_command(request: Request, command_id: str, new: Cancellation | None = None) -> Response:
        """Take a command back, until the PC begins."""
        reason = new.reason if new is not None else None
        status = await commands.cancel(command_id, request.state.caller, reason=reason)
        return json_answer({"status": status or "cancel_requested"})

    @router.post("/api/agent-commands/{command_id}/resolve")
    @serves(operators(Role.APPROVER))
    async def resolve_command(request: Request, command_id: str, new: NewResolution) -> Response:
        """Say what became of a command whose fate is unknown."""
        command = await commands.resolve(command_id, request.state.caller, outcome=new.outcome, reason=new.reason)
        return json_answer({"status": command.status})


def _statuses(text: str | None) -> frozenset[CommandStatus]:
    try:
        return frozenset(CommandStatus(name) for name in text.split(",")) if text else frozenset()
    except ValueError as err:
        raise BadInput("status", f"expected a list of {', '.join(CommandStatus)}") from err


def _report_shape(report: RecordedReport) -> dict[str, object]:
    return {
        "received_at": time_text(report.received_at),
        "status": report.status,
        "result": json.loads(report.result_json),
        "verdict": report.verdict,
    }


def _orphan_shape(report: RecordedReport) -> dict[str, object]:
    return {
        "id": report.id,
        "agent_id": report.agent_id,
        "command_id": report.command_id,
        "received_at": time_text(report.received_at),
        "status": report.status,
        "result": json.loads(report.result_json),
    }
