"""Approvals: who may say yes to a command, to which bytes, and how many it takes.

Nothing here makes a PC obey: a PC that pins approvers verifies their signatures by itself.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reco3.protocol.commands import CommandType
from reco3.protocol.envelope import MAX_SIGNATURES, MAX_VALIDITY_S, Envelope, Expected, Signature
from reco3.protocol.limits import JOURNAL_PATTERN
from reco3.server.domain.agents import Agent
from reco3.server.domain.commands import (
    Approval,
    Command,
    CommandStatus,
    Expectation,
    is_expired,
    lifetimes,
)
from reco3.server.domain.envelopes import StoredEnvelope
from reco3.server.domain.errors import BadInput, Conflict, Forbidden
from reco3.server.domain.keys import OperatorKey
from reco3.server.domain.policies import Terms
from reco3.signing.verifying import Rejected, Verified, verify_signature

MAX_COMMENT_CHARS = 500
MAX_COMMENTS = 200
NOT_VERIFIED = "approvals not verified by this PC"
_MAX_PINNED = 1_000
_MAX_TRUST_VERSION_CHARS = 64
_WITH_PROCESS = (CommandType.RESTART_PROCESS, CommandType.STOP_PROCESS)


@dataclass(frozen=True, slots=True)
class PcTrust:
    """What a PC said last about the approvals that it obeys; one that pins no key verifies none."""

    approvers_pinned: int = 0
    approvals_required: int = 1
    trust_version: str | None = None

    @property
    def verifies(self) -> bool:
        """Whether the PC verifies approvals by itself."""
        return self.approvers_pinned > 0


@dataclass(frozen=True, slots=True)
class GivenApproval:
    """What an approver sends with a yes: the process and the bytes that were shown, a comment, a signature."""

    shown: Expectation | None = None
    body_sha256: str | None = None
    comment: str | None = None
    signature: Signature | None = None


NOTHING_MORE = GivenApproval()


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody said about a command; it changes nothing."""

    id: str
    command_id: str
    author: str
    text: str
    created_at: datetime


def trust_of(agent: Agent) -> PcTrust:
    """What the PC's last heartbeat says; what is no sensible number counts as not said."""
    metrics = _metrics(agent)
    pinned = _count(metrics.get("approvers_pinned"), _MAX_PINNED)
    if pinned == 0:
        return PcTrust()
    required = _count(metrics.get("approvals_required"), MAX_SIGNATURES)
    return PcTrust(pinned, max(1, required), _version(metrics.get("trust_version")))


def journal_of(agent: Agent) -> str | None:
    """The journal that the PC's last heartbeat named: its epoch."""
    journal = _metrics(agent).get("journal")
    return journal if isinstance(journal, str) and JOURNAL_PATTERN.fullmatch(journal) else None


def processes_of(agent: Agent) -> list[Mapping[str, object]] | None:
    """The watched processes in the PC's last heartbeat, None when it has no list."""
    processes = _metrics(agent).get("processes")
    if not isinstance(processes, list):
        return None
    return [process for process in processes if isinstance(process, dict)]


def seen_process(agent: Agent, command: Command) -> Expectation | None:
    """The process that the command is about as the PC reported it last; None where nobody can tell."""
    if command.type not in _WITH_PROCESS:
        return None
    name = json.loads(command.payload_json).get("process")
    for process in processes_of(agent) or ():
        if process.get("name") != name:
            continue
        if not process.get("running"):
            return Expectation(None, None)
        pid, create_time_ms = process.get("pid"), process.get("create_time_ms")
        if isinstance(create_time_ms, int):
            return Expectation(pid if isinstance(pid, int) else None, create_time_ms)
    return None


def under_terms(
    command: Command, terms: Terms, trust: PcTrust, *, lifetime: timedelta | None, approval_required: bool
) -> Command:
    """The strong command as its policy and its PC want it approved.

    Raises:
        BadInput: a reason is missing, or it would wait for longer than it may.
    """
    if terms.reason_required and command.reason is None:
        raise BadInput("reason", "expected a reason: the policy for this command asks for one", code="reason_required")
    usual = lifetimes[command.strength]
    longest = timedelta(seconds=terms.lifetime_s) if terms.lifetime_s else usual if trust.verifies else None
    wanted = lifetime or longest or usual
    if longest is not None and wanted > longest:
        why = "this PC pins approvers" if terms.lifetime_s is None else "the policy says so"
        raise BadInput("expires_in_s", f"expected at most {longest.total_seconds():.0f} s here, because {why}")
    is_open = not approval_required and not trust.verifies
    return replace(
        command,
        expires_at=command.ts + wanted,
        approvals_required=1 if is_open else max(terms.approvals_required, trust.approvals_required),
        four_eyes=terms.four_eyes and not is_open,
    )


def may_be_sealed(command: Command) -> bool:
    """Whether an envelope can be made that a PC would take: its time must not be too long."""
    return command.needs_approval and command.expires_at - command.ts <= timedelta(seconds=MAX_VALIDITY_S)


def envelope_for(
    command: Command, seen: Expectation | None, *, fleet_id: str, agent_epoch: str | None, nonce: str
) -> Envelope:
    """What approvers of this command will sign."""
    return Envelope(
        fleet_id=fleet_id,
        command_id=command.id,
        agent_id=command.agent_id,
        agent_epoch=agent_epoch,
        type=command.type,
        payload=json.loads(command.payload_json),
        expect=None if seen is None else Expected(seen.pid, seen.create_time_ms),
        requested_by=command.created_by,
        reason=command.reason,
        created_at=int(command.ts.timestamp()),
        expires_at=int(command.expires_at.timestamp()),
        nonce=nonce,
    )


def is_outdated(command: Command, seen: Expectation | None) -> bool:
    """Whether nobody has approved yet and the envelope names another process than the PC reports."""
    return (
        command.status is CommandStatus.PENDING
        and command.envelope is not None
        and not command.approvals
        and _names_another(command.envelope, seen)
    )


def refuse_approval(command: Command, approval: Approval) -> None:
    """Refuse a yes that does not belong to this command now, or not to this person.

    Raises:
        BadInput: the command needs no approval.
        Conflict: it has enough, or this person's, or it does not wait any more.
        Forbidden: whoever asked for it may not approve it.
    """
    _require_strong(command)
    if command.approval is not None and command.is_approved:
        raise Conflict(f"Approved already by {command.approval.approved_by}.", code="already_approved")
    require_pending(command, approval.approved_at)
    if command.four_eyes and approval.approved_by == command.created_by:
        raise Forbidden(
            "You asked for this command, so somebody else must approve it (four eyes).", code="self_approval"
        )
    if approval.approved_by in {one.approved_by for one in command.approvals}:
        raise Conflict("You have approved this already; it needs another person.", code="already_approved")


def refuse_denial(command: Command, now: datetime) -> None:
    """Refuse a no to what nobody can deny any more; an approved command can be denied until its PC has it.

    Raises:
        BadInput: the command needs no approval.
        Conflict: it does not wait any more.
    """
    _require_strong(command)
    require_pending(command, now)


def require_pending(command: Command, now: datetime) -> None:
    """Refuse a command that has left the queue, or whose time is over.

    Raises:
        Conflict: so it is.
    """
    if command.status is not CommandStatus.PENDING or is_expired(command, now):
        status = CommandStatus.EXPIRED if is_expired(command, now) else command.status
        raise Conflict(f"This command is {status}; only a pending one can be approved or denied.", code="not_pending")


def refuse_what_changed(command: Command, given: GivenApproval, seen: Expectation | None) -> None:
    """Refuse a yes to other bytes, or to another process, than there are now.

    Raises:
        Conflict: `changed_since_shown`.
    """
    envelope = command.envelope
    if given.body_sha256 is not None and (envelope is None or given.body_sha256.lower() != envelope.sha256):
        raise _changed("The bytes to be signed are not those that were shown any more; look again, then decide.")
    if seen is None:
        return
    if command.approvals and command.expectation is not None and command.expectation != seen:
        raise _changed("The process is not the one that the first approver saw any more; ask for a new command.")
    is_tied = given.signature is not None or given.body_sha256 is not None
    names_another = is_tied and envelope is not None and _names_another(envelope, seen)
    if names_another or (given.shown is not None and given.shown != seen):
        raise _changed("The process is not the one that was shown any more; look at it again, then decide.")


def refuse_unsigned(given: GivenApproval, trust: PcTrust) -> None:
    """Refuse a bare yes where the PC obeys signatures alone.

    Raises:
        Conflict: `signature_needed`.
    """
    if given.signature is None and trust.verifies:
        raise Conflict(
            "This PC pins approvers and obeys signatures alone: sign on the page, or with reco3 approve.",
            code="signature_needed",
        )


def named_key(signature: Signature, keys: Iterable[OperatorKey]) -> OperatorKey:
    """The one of the approver's own registered keys that the signature names.

    Raises:
        BadInput: `unknown_key`.
    """
    for key in keys:
        if key.key_id == signature.key_id and key.kind is signature.kind:
            return key
    raise BadInput("signature.key_id", "expected one of your own keys, registered and not revoked", code="unknown_key")


def verified_by(key: OperatorKey, signature: Signature, command: Command) -> Verified:
    """Make sure that this key signed the command's bytes.

    Raises:
        BadInput: `bad_signature`.
        Conflict: there is nothing to sign.
    """
    if command.envelope is None:
        raise Conflict("This command has no envelope to sign; ask for a new one.", code="no_envelope")
    verdict = verify_signature(key.pin, signature, command.envelope.message)
    if isinstance(verdict, Rejected):
        raise BadInput("signature", verdict.reason, code="bad_signature")
    return verdict


def approved(command: Command, approval: Approval, seen: Expectation | None, trust: PcTrust) -> Command:
    """The command after one more yes; the first one settles which process it is about."""
    expectation = command.expectation if command.approvals else seen or _expected(command.envelope)
    return replace(
        command,
        approvals=(*command.approvals, approval),
        expectation=expectation,
        approvals_required=max(command.approvals_required, trust.approvals_required),
    )


def _require_strong(command: Command) -> None:
    if not command.needs_approval:
        raise BadInput("type", f"{command.type} needs no approval; it runs at once", code="approval_not_needed")


def _names_another(envelope: StoredEnvelope, seen: Expectation | None) -> bool:
    return seen is not None and seen != _expected(envelope)


def _expected(envelope: StoredEnvelope | None) -> Expectation | None:
    expect = None if envelope is None else envelope.says.expect
    return None if expect is None else Expectation(expect.pid, expect.create_time_ms)


def _changed(message: str) -> Conflict:
    return Conflict(message, code="changed_since_shown")


def _metrics(agent: Agent) -> Mapping[str, object]:
    metrics = json.loads(agent.payload_json).get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _version(value: object) -> str | None:
    is_one = isinstance(value, str) and value.isalnum() and len(value) <= _MAX_TRUST_VERSION_CHARS
    return str(value) if is_one else None


def _count(value: object, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return min(max(value, 0), highest)
