"""Commands: which may be asked for, which may be delivered, what a report means.

Refusals that callers branch on are values; nothing here trusts what an agent says about approvals.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from reco3.protocol.commands import CommandType, Strength, check_payload, needs_approval, type_strengths
from reco3.protocol.limits import MAX_RESULT_BYTES
from reco3.server.domain.errors import BadInput

REDELIVER_SAFE_AFTER_S = 60
MAX_KEPT_CHARS = 8_000


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


@dataclass(frozen=True, slots=True)
class Approval:
    """A human's recorded yes to one command."""

    id: str
    command_id: str
    approved_by: str
    approved_at: datetime


@dataclass(frozen=True, slots=True)
class Command:
    """An order to one PC; `payload_json` and `result_json` are JSON objects as text."""

    id: str
    agent_id: str
    ts: datetime
    type: CommandType
    payload_json: str
    status: CommandStatus
    created_by: str
    result_json: str | None = None
    delivered_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    approval: Approval | None = None

    @property
    def strength(self) -> Strength:
        """How many locks the command must pass."""
        return type_strengths[self.type]

    @property
    def needs_approval(self) -> bool:
        """Whether a human must say yes on the server first."""
        return needs_approval(self.type)


class ReportStatus(StrEnum):
    """What an agent may report."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """A report that moves the command on."""

    command: Command


@dataclass(frozen=True, slots=True)
class ReportRepeated:
    """A report of a command that has already ended: answered, changes nothing."""

    command: Command


@dataclass(frozen=True, slots=True)
class AgentReport:
    """A report that passed the border; `result_json` is a JSON object as text."""

    command_id: str
    agent_id: str
    status: ReportStatus
    result: Mapping[str, object] = field(default_factory=dict)
    result_json: str = "{}"


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


def may_deliver(command: Command, now: datetime) -> bool:
    """Whether a pull may carry this command.

    A strong command is delivered at most once, whatever became of the answer that carried it.
    A safe one is offered again after a minute's silence: it may run twice without harm.
    """
    if command.needs_approval:
        return command.status is CommandStatus.PENDING and command.approval is not None
    if command.status is CommandStatus.PENDING:
        return True
    return (
        command.status is CommandStatus.DELIVERED
        and command.delivered_at is not None
        and (now - command.delivered_at).total_seconds() >= REDELIVER_SAFE_AFTER_S
    )


def delivered(command: Command, now: datetime) -> Command:
    """The command once a pull carries it."""
    return replace(command, status=CommandStatus.DELIVERED, delivered_at=now)


def take_report(command: Command, report: AgentReport, now: datetime) -> ReportTaken | ReportRepeated:
    """Decide what a report does to its command."""
    if command.status not in (CommandStatus.DELIVERED, CommandStatus.RUNNING):
        return ReportRepeated(command)
    if report.status is ReportStatus.RUNNING:
        if command.status is CommandStatus.RUNNING:
            return ReportRepeated(command)
        return ReportTaken(replace(command, status=CommandStatus.RUNNING, started_at=now))
    return ReportTaken(
        replace(command, status=CommandStatus(report.status.value), result_json=report.result_json, finished_at=now)
    )
