"""Approvals: the bytes to sign, the yes and the no, and comments."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.envelope import VERSION, encode_base64url
from reco3.server.domain.approvals import MAX_COMMENT_CHARS, GivenApproval
from reco3.server.domain.commands import Approval, Expectation
from reco3.server.domain.envelopes import StoredEnvelope
from reco3.server.domain.operators import LoginMethod, Operator, Role, require_proof
from reco3.server.services.approvals import ApprovalService, Offer
from reco3.server.services.commands import CommandService, TakenApproval
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.fields import NOT_BLANK, Reason, proves_its_person, read_given_signature
from reco3.server.web.shapes import comment_shape, time_text

Text = Annotated[str, Field(min_length=1, max_length=MAX_COMMENT_CHARS, pattern=NOT_BLANK)]


class ShownProcess(BaseModel):
    """The process that the approver's page showed; no pid means that it was not running."""

    model_config = ConfigDict(strict=True)

    pid: int | None
    create_time_ms: int | None


class NewApproval(BaseModel):
    """What an approval may carry; `approved_by` counts only for the test mode's implicit admin."""

    model_config = ConfigDict(strict=True)

    approved_by: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@ -]+$")] | None = None
    expect: ShownProcess | None = None
    body_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    comment: Text | None = None
    signature: dict[str, Any] | None = None


class Denial(BaseModel):
    """What a denial must carry."""

    model_config = ConfigDict(strict=True)

    reason: Reason


class NewComment(BaseModel):
    """What a comment must carry."""

    model_config = ConfigDict(strict=True)

    text: Text


def approval_routes(commands: CommandService, approvals: ApprovalService, clock: Clock) -> APIRouter:
    """What approvers do with one of `/api/agent-commands`."""
    router = APIRouter(tags=["approvals"])
    _add_approving(router, commands, approvals, clock)
    _add_talking(router, approvals)
    return router


def _add_approving(router: APIRouter, commands: CommandService, approvals: ApprovalService, clock: Clock) -> None:
    @router.get("/api/agent-commands/{command_id}/envelope")
    @serves(operators(Role.APPROVER))
    async def read_envelope(command_id: str) -> Response:
        """The bytes to sign, what they say, and who signed them."""
        return json_answer(_offer_shape(await approvals.offer(command_id)))

    @router.post("/api/agent-commands/{command_id}/approve")
    @serves(operators(Role.APPROVER))
    async def approve_command(request: Request, command_id: str, new: NewApproval | None = None) -> Response:
        """Say yes to a strong command, with a signature where its PC pins approvers."""
        given = GivenApproval() if new is None else _given(new)
        # The service refuses a signature that is not his own.
        if not proves_its_person(given.signature):
            require_proof(request.state.caller, clock())
        taken = await commands.approve(command_id, _approver(request.state.caller, new), given)
        return json_answer(_taken_shape(taken))


def _add_talking(router: APIRouter, approvals: ApprovalService) -> None:
    @router.post("/api/agent-commands/{command_id}/deny")
    @serves(operators(Role.APPROVER))
    async def deny_command(request: Request, command_id: str, new: Denial) -> Response:
        """Say no to a strong command: it will not run."""
        command = await approvals.deny(command_id, request.state.caller, reason=new.reason)
        return json_answer({"status": command.status})

    @router.post("/api/agent-commands/{command_id}/comments")
    @serves(operators(Role.OPERATOR))
    async def comment_on_command(request: Request, command_id: str, new: NewComment) -> Response:
        """Say something about a command to everybody who reads it."""
        return json_answer(comment_shape(await approvals.comment(command_id, request.state.caller, text=new.text)))


def _given(new: NewApproval) -> GivenApproval:
    shown = None if new.expect is None else Expectation(new.expect.pid, new.expect.create_time_ms)
    signature = None if new.signature is None else read_given_signature(new.signature)
    return GivenApproval(shown, new.body_sha256, new.comment, signature)


def _approver(caller: Operator, new: NewApproval | None) -> Operator:
    if caller.method is LoginMethod.TEST_MODE and new is not None and new.approved_by is not None:
        return Operator(new.approved_by, caller.role, caller.method)
    return caller


def _taken_shape(taken: TakenApproval) -> dict[str, object]:
    command = taken.command
    if command.is_approved:
        return {"approval_id": taken.approval.id, "status": "approved"}
    return {
        "approval_id": taken.approval.id,
        "status": "pending",
        "approvals": len(command.approvals),
        "required": command.approvals_required,
    }


def _offer_shape(offer: Offer) -> dict[str, object]:
    command, envelope = offer.command, offer.envelope
    return {
        "payload_type": envelope.payload_type,
        "body": encode_base64url(envelope.body),
        "challenge": encode_base64url(envelope.challenge),
        "fields": _fields_shape(envelope),
        "signatures": [_signer_shape(one) for one in command.approvals if one.signature is not None],
        "approvals_required": max(command.approvals_required, offer.trust.approvals_required),
        "four_eyes": command.four_eyes,
        "pc": asdict(offer.trust),
    }


def _fields_shape(envelope: StoredEnvelope) -> dict[str, object]:
    says = envelope.says
    return {"v": VERSION, **asdict(says), "payload": dict(says.payload), "policy": str(says.policy)}


def _signer_shape(approval: Approval) -> dict[str, object]:
    signature = approval.signature
    return {
        "owner": approval.approved_by,
        "kind": signature.kind if signature else None,
        "key_id": signature.key_id if signature else None,
        "approved_at": time_text(approval.approved_at),
    }
