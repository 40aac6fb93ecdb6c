"""Trust changes: proposed, looked at, signed and withdrawn by operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from reco3.protocol.envelope import signed_envelope_shape
from reco3.protocol.trust_changes import MAX_PIN_CHARS, MAX_TRUSTED_KEYS, trust_set_fields
from reco3.server.domain.operators import Role, require_proof
from reco3.server.domain.trust_changes import (
    MAX_LIFETIME_DAYS,
    USUAL_LIFETIME_DAYS,
    ProposedSet,
    TrustProposal,
    status_of,
)
from reco3.server.services.ports import Clock
from reco3.server.services.trust_changes import ShownTrustChange, TrustChangeService
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.operator_api.fields import Reason, proves_its_person, read_given_signature
from reco3.server.web.shapes import cursor_text, optional_time_text, parse_cursor, time_text
from reco3.signing.trust_changes import TrustedKeys


class NewSet(BaseModel):
    """A set of keys: pins in any order, and how many of their owners must sign a command."""

    model_config = ConfigDict(strict=True, extra="forbid")

    approvers: Annotated[
        list[Annotated[str, Field(max_length=MAX_PIN_CHARS)]], Field(min_length=1, max_length=MAX_TRUSTED_KEYS)
    ]
    approvals_required: Annotated[int, Field(ge=1, le=MAX_TRUSTED_KEYS)]


class NewTrustChange(BaseModel):
    """What `POST /api/trust-changes` takes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    old: NewSet
    new: NewSet
    reason: Reason
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_LIFETIME_DAYS)] = USUAL_LIFETIME_DAYS


class NewSignature(BaseModel):
    """A signature over the change's bytes, as it travels in the order of a pull."""

    model_config = ConfigDict(strict=True, extra="forbid")

    signature: dict[str, Any]


class Withdrawal(BaseModel):
    """What a withdrawal must carry."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Reason


def trust_change_routes(trust_changes: TrustChangeService, clock: Clock) -> APIRouter:
    """`/api/trust-changes`."""
    router = APIRouter(tags=["trust changes"])
    _add_reading(router, trust_changes, clock)
    _add_deciding(router, trust_changes, clock)
    return router


def _add_reading(router: APIRouter, trust_changes: TrustChangeService, clock: Clock) -> None:
    @router.get("/api/trust-changes")
    @serves(operators(Role.VIEWER))
    async def newest_changes(limit: Annotated[int, Query(ge=1, le=500)] = 100, cursor: str | None = None) -> Response:
        """Trust changes, newest first, without their bytes."""
        found = await trust_changes.newest(before=parse_cursor(cursor), limit=limit)
        last = found[-1].change if len(found) == limit else None
        now = clock()
        return json_answer(
            {
                "trust_changes": [_change_shape(shown, now) for shown in found],
                "count": len(found),
                "next_cursor": cursor_text(last.created_at, last.id) if last else None,
                "now": time_text(now),
            }
        )

    @router.get("/api/trust-changes/{change_id}")
    @serves(operators(Role.VIEWER))
    async def read_change(change_id: str) -> Response:
        """One trust change with the bytes to sign, and the signatures over them."""
        shown = await trust_changes.get(change_id)
        return json_answer({**_change_shape(shown, clock()), "envelope": signed_envelope_shape(shown.change.signed)})


def _add_deciding(router: APIRouter, trust_changes: TrustChangeService, clock: Clock) -> None:
    @router.post("/api/trust-changes")
    @serves(operators(Role.ADMIN, needs_proof=True))
    async def propose_change(request: Request, new: NewTrustChange) -> Response:
        """Propose that every PC that pins exactly the old keys pins the new ones instead."""
        proposal = TrustProposal(_set(new.old), _set(new.new), new.reason, new.expires_in_days)
        return json_answer(_change_shape(await trust_changes.propose(proposal, request.state.caller), clock()))

    @router.post("/api/trust-changes/{change_id}/sign")
    @serves(operators(Role.APPROVER))
    async def sign_change(request: Request, change_id: str, new: NewSignature) -> Response:
        """Add a signature by one of its keys; enough of both sides publish it."""
        signature = read_given_signature(new.signature)
        if not proves_its_person(signature):
            require_proof(request.state.caller, clock())
        shown = await trust_changes.sign(change_id, request.state.caller, signature)
        return json_answer(_change_shape(shown, clock()))

    @router.post("/api/trust-changes/{change_id}/withdraw")
    @serves(operators(Role.ADMIN, needs_proof=True))
    async def withdraw_change(request: Request, change_id: str, new: Withdrawal) -> Response:
        """Relay a change no more; a PC that took it keeps it."""
        shown = await trust_changes.withdraw(change_id, request.state.caller, reason=new.reason)
        return json_answer(_change_shape(shown, clock()))


def _set(new: NewSet) -> ProposedSet:
    return ProposedSet(tuple(new.approvers), new.approvals_required)


def _change_shape(shown: ShownTrustChange, now: datetime) -> dict[str, object]:
    change, handover = shown.change, shown.handover
    old_version, new_version = handover.versions
    return {
        "id": change.id,
        "status": status_of(change, now),
        "old": {**trust_set_fields(handover.says.old), **_named(old_version, handover.old)},
        "new": {**trust_set_fields(handover.says.new), **_named(new_version, handover.new)},
        **_progress_shape("old", change.old_signed, handover.old.needed),
        **_progress_shape("new", change.new_signed, handover.new.approvals_required),
        "reason": handover.says.reason,
        "requested_by": handover.says.requested_by,
        "created_at": time_text(change.created_at),
        "expires_at": time_text(change.expires_at),
        "published_at": optional_time_text(change.published_at),
        "withdrawn_by": change.withdrawn_by,
        "withdrawn_reason": change.withdrawn_reason,
    }


def _named(version: str, keys: TrustedKeys) -> dict[str, object]:
    return {"trust_version": version, "owners": list(keys.owners)}


def _progress_shape(side: str, signed: Sequence[str], needed: int) -> dict[str, object]:
    return {f"{side}_signed": list(signed), f"{side}_needed": needed}
