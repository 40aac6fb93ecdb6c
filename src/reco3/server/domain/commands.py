"""Commands: which may be asked for, which may be delivered, what a report means, when silence is an answer.

Refusals that callers branch on are values; nothing here trusts what an agent says about approvals.

    pending ──> delivered ──> running ──> completed | failed | unknown
       │            └──> completed | failed | cancelled | expired | unknown
       └──> expired | cancelled | rejected
    unknown ──> completed | failed      by a person, or by the PC's own late report
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from reco3.protocol.commands import CommandType, Strength, check_payload, needs_approval, type_strengths
from reco3.protocol.envelope import Signature, SignedEnvelope
from reco3.protocol.limits import MAX_RESULT_BYTES
from reco3.server.domain.envelopes import StoredEnvelope
from reco3.server.domain.errors import BadInput

REDELIVER_SAFE_AFTER_S = 60
LEASE_S = 30
# For so long after a command's last sign of life, or after it expired, we wait before we say that we do not know.
SILENCE_S = 300
# The longest that a PC may work on one command before its silence counts.
LONGEST_RUN_S = 600
MAX_KEPT_CHARS = 8_000
MAX_REASON_CHARS = 500
MIN_LIFETIME_S = 60
MAX_LIFETIME_S = 86_400

lifetimes: Mapping[Strength, timedelta] = {
    Strength.SAFE: timedelta(hours=24),
    Strength.MODERATE: timedelta(minutes=15),
    Strength.STRONG: timedelta(minutes=15),
}


class CommandStatus(StrEnum):
    """A command's life: `pending` → `delivered` → `running` → an end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


IN_FLIGHT = frozenset({CommandStatus.PENDING, CommandStatus.DELIVERED, CommandStatus.RUNNING})


class ReportStatus(StrEnum):
    """What an agent may report."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What a person found out about a command whose fate was unknown."""

    RAN = "ran"
    DID_NOT_RUN = "did_not_run"


class Verdict(StrEnum):
    """What became of a report: it moved the command, said it again, contradicted it, or names none we know."""

    TAKEN = "taken"
    REPEATED = "repeated"
    CONFLICT = "conflict"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Approval:
    """A human's recorded yes to one command; without a signature it is his word on the server alone."""

    id: str
    command_id: str
    approved_by: str
    approved_at: datetime
    comment: str | None = None
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """A person's word on what became of an `unknown` command."""

    outcome: Outcome
    reason: str
    resolved_by: str
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class Expectation:
    """The process that the approver saw: its pid and when it was created; no pid means that it was not running."""

    pid: int | None
    create_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Command:
    """An order to one PC; `payload_json` and `result_json` are JSON objects as text.

    `journal` names the agent's journal that the command was delivered to; agents of the first protocol have none.
    `version` grows with every change and guards against two changes at once.
    `approvals` are oldest first; `envelope` is what they sign, None for commands that nobody signs.
    """

    id: str
    agent_id: str
    ts: datetime
    type: CommandType
    payload_json: str
    status: CommandStatus
    created_by: str
    expires_at: datetime
    reason: str | None = None
    result_json: str | None = None
    delivered_at: datetime | None = None
    delivery_count: int = 0
    journal: str | None = None
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_told_at: datetime | None = None
    approvals: tuple[Approval, ...] = ()
    approvals_required: int = 1
    four_eyes: bool = False
    rejected_by: str | None = None
    rejection_reason: str | None = None
    envelope: StoredEnvelope | None = None
    expectation: Expectation | None = None
    resolution: Resolution | None = None
    version: int = 0

    @property
    def strength(self) -> Strength:
        """How many locks the command must pass."""
        return type_strengths[self.type]

    @property
    def needs_approval(self) -> bool:
        """Whether a human must say yes on the server first."""
        return needs_approval(self.type)

    @property
    def approval(self) -> Approval | None:
        """The last yes, if there is one."""
        return self.approvals[-1] if self.approvals else None

    @property
    def is_approved(self) -> bool:
        """Whether enough people said yes; each counts once, and with four eyes not whoever asked."""
        if not self.needs_approval:
            return True
        people = {one.approved_by for one in self.approvals}
        return len(people - {self.created_by} if self.four_eyes else people) >= self.approvals_required

    @property
    def signed_envelope(self) -> SignedEnvelope | None:
        """The envelope with every signature over it, as the PC gets it."""
        if self.envelope is None:
            return None
        signatures = tuple(one.signature for one in self.approvals if one.signature is not None)
        return SignedEnvelope(self.envelope.payload_type, self.envelope.body, signatures)


@dataclass(frozen=True, slots=True)
class AgentReport:
    """A report that passed the border; `result_json` is a JSON object as text."""

    command_id: str
    agent_id: str
    status: ReportStatus
    result: Mapping[str, object] = field(default_factory=dict)
    result_json: str = "{}"


@dataclass(frozen=True, slots=True)
class RecordedReport:
    """A report as it was stored for evidence."""

    id: int
    command_id: str
    agent_id: str
    received_at: datetime
    status: ReportStatus
    result_json: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """A report that moves the command on."""

    command: Command


@dataclass(frozen=True, slots=True)
class ReportRepeated:
    """A report that says what is known already: answered, changes nothing."""

    command: Command


@dataclass(frozen=True, slots=True)
class ReportConflict:
    """A report that contradicts how the command ended: kept as evidence, changes nothing."""

    command: Command


ReportOutcome = ReportTaken | ReportRepeated | ReportConflict


def bounded_result(result: Mapping[str, object]) -> dict[str, object]:
    """A result that fits its column: of one that is too large, success and the ends of its texts are kept."""
    if len(json.dumps(result)) <= MAX_RESULT_BYTES:
        return dict(result)
    texts = {
        name: value[-MAX_KEPT_CHARS:]
        for name in ("output", "error", "code")
        if isinstance(value := result.get(name), str)
    }
    return {"success": result.get("success") is True, **texts, "was_cut": True}


def parse_type(text: str) -> CommandType:
    """The command type of that name.

    Raises:
        BadInput: names the field and the types there are.
    """
    try:
        return CommandType(text)
    except ValueError as err:
        known = ", ".join(CommandType)
        raise BadInput("type", f"expected one of {known}, got {ascii(text)[:60]}", code="unknown_command_type") from err


def check_request(command_type: CommandType, payload: Mapping[str, object], *, watched: Sequence[str] | None) -> None:
    """Refuse a payload that this command, or this PC, does not take.

    `watched` are the process names the PC last reported, None when it has not reported any list.

    Raises:
        BadInput: names the field.
    """
    bad = check_payload(command_type, payload)
    if bad is not None:
        raise BadInput(bad.field, bad.reason, code="bad_payload")
    process = payload.get("process")
    if process is None or watched is None or process in watched:
        return
    known = ", ".join(watched) or "none"
    raise BadInput(
        "payload.process",
        f"this PC does not watch {ascii(process)[:60]}; it watches: {known}. Add it to watch.processes in its config.",
        code="unknown_process",
    )


def may_deliver(command: Command, now: datetime, *, journal: str | None) -> bool:
    """Whether a pull by an agent with this journal may carry this command.

    A strong command is handed out once. Offering it again to the very journal that got it is a question, which the
    journal answers; an agent without a journal, or with another one, never gets it twice.
    A safe one is offered again after a minute's silence: it may run twice without harm.
    """
    if now >= command.expires_at or command.cancel_requested_at is not None:
        return False
    if command.status is CommandStatus.PENDING:
        return command.is_approved
    if command.status is not CommandStatus.DELIVERED or command.delivered_at is None:
        return False
    silent_s = (now - command.delivered_at).total_seconds()
    if command.journal is not None and command.journal == journal:
        return command.accepted_at is None and silent_s >= LEASE_S
    return not command.needs_approval and silent_s >= REDELIVER_SAFE_AFTER_S


def delivered(command: Command, now: datetime, *, journal: str | None) -> Command:
    """The command once a pull carries it."""
    return replace(
        command,
        status=CommandStatus.DELIVERED,
        delivered_at=now,
        delivery_count=command.delivery_count + 1,
        journal=journal,
    )


def lost_its_journal(command: Command, *, journal: str | None) -> bool:
    """Whether the PC no longer has the journal that knew this command, so that nobody can say what became of it."""
    return (
        command.needs_approval
        and command.status in (CommandStatus.DELIVERED, CommandStatus.RUNNING)
        and command.journal is not None
        and command.journal != journal
    )


def must_hear_of_cancel(command: Command, now: datetime, *, journal: str | None) -> bool:
    """Whether a pull by an agent with this journal should say that this command is not wanted any more."""
    if command.cancel_requested_at is None or command.journal != journal or journal is None:
        return False
    if command.status is not CommandStatus.DELIVERED:
        return False
    return command.cancel_told_at is None or (now - command.cancel_told_at).total_seconds() >= LEASE_S


def take_report(command: Command, report: AgentReport, now: datetime) -> ReportOutcome:
    """Decide what a report does to its command."""
    if report.status in (ReportStatus.ACCEPTED, ReportStatus.RUNNING):
        return _take_progress(command, report, now)
    ended = replace(command, status=_end_of(command, report), result_json=report.result_json, finished_at=now)
    if command.status in (CommandStatus.DELIVERED, CommandStatus.RUNNING) or _was_deliverable(command):
        return ReportTaken(ended)
    if command.status is ended.status:
        return ReportRepeated(command)
    if command.status is CommandStatus.UNKNOWN:
        return ReportTaken(ended)
    return ReportConflict(command)


def is_expired(command: Command, now: datetime) -> bool:
    """Whether the command has waited on the server for too long."""
    return command.status is CommandStatus.PENDING and now >= command.expires_at


def is_silent(command: Command, now: datetime) -> bool:
    """Whether a PC that got the command has been silent for so long that its fate is unknown."""
    if command.status not in (CommandStatus.DELIVERED, CommandStatus.RUNNING) or command.delivered_at is None:
        return False
    return now >= _silent_at(command, command.delivered_at)


def may_cancel(command: Command) -> bool:
    """Whether a person may still take the command back: until the PC begins, if it can be told at all."""
    if command.status is CommandStatus.PENDING:
        return True
    return (
        command.status is CommandStatus.DELIVERED
        and command.journal is not None
        and command.cancel_requested_at is None
    )


def rejected(command: Command, rejected_by: str, reason: str, now: datetime) -> Command:
    """The command after somebody said no."""
    return replace(
        command,
        status=CommandStatus.REJECTED,
        rejected_by=rejected_by,
        rejection_reason=reason,
        finished_at=now,
    )


def resolved(command: Command, resolution: Resolution) -> Command:
    """An `unknown` command after a person said what became of it."""
    status = CommandStatus.COMPLETED if resolution.outcome is Outcome.RAN else CommandStatus.FAILED
    return replace(command, status=status, resolution=resolution, finished_at=resolution.resolved_at)


def _take_progress(command: Command, report: AgentReport, now: datetime) -> ReportOutcome:
    if command.status is CommandStatus.DELIVERED and report.status is ReportStatus.RUNNING:
        return ReportTaken(replace(command, status=CommandStatus.RUNNING, started_at=now))
    if command.status is CommandStatus.DELIVERED and command.accepted_at is None:
        return ReportTaken(replace(command, accepted_at=now))
    return ReportRepeated(command)


def _end_of(command: Command, report: AgentReport) -> CommandStatus:
    code = report.result.get("code")
    if report.status is ReportStatus.FAILED and code == "cancelled" and command.cancel_requested_at is not None:
        return CommandStatus.CANCELLED
    if report.status is ReportStatus.FAILED and code == "expired":
        return CommandStatus.EXPIRED
    return CommandStatus(report.status.value)


def _was_deliverable(command: Command) -> bool:
    # A database restored from a copy may not know that it delivered this; the PC's journal does.
    return command.status is CommandStatus.PENDING and command.is_approved


def _silent_at(command: Command, delivered_at: datetime) -> datetime:
    grace = timedelta(seconds=SILENCE_S)
    if command.started_at is not None:
        return command.started_at + timedelta(seconds=LONGEST_RUN_S) + grace
    if command.journal is None and command.needs_approval:
        return delivered_at + grace
    return max(command.expires_at, delivered_at) + grace
