"""Reports: what PCs say became of their commands, each kept as evidence when it says anything new."""

import json
from collections.abc import Sequence
from datetime import datetime

from reco3.protocol.commands import CommandType, Severity
from reco3.server.domain.audit import AuditEvent, agent_actor
from reco3.server.domain.commands import (
    IN_FLIGHT,
    AgentReport,
    Command,
    CommandStatus,
    RecordedReport,
    ReportConflict,
    ReportOutcome,
    ReportRepeated,
    ReportStatus,
    Verdict,
    take_report,
)
from reco3.server.domain.errors import Conflict, NotFound, Reco3Error
from reco3.server.domain.incidents import NOTICE_CODE, Sighting
from reco3.server.services.command_rows import command_event
from reco3.server.services.incidents import IncidentRecorder
from reco3.server.services.ports import Outside, Transaction

AUTOMATIC_APPROVER = "nobody (RECO3_REQUIRE_APPROVAL=0)"
SWEEP_S = 5.0
MAX_REPORTS_KEPT = 20
MAX_ORPHANS_KEPT = 200
MAX_TIMELINE_ROWS = 200


class ReportService:
    """The way back from the PCs."""

    def __init__(self, outside: Outside, incidents: IncidentRecorder) -> None:
        self._outside = outside
        self._incidents = incidents

    async def take(self, report: AgentReport) -> Command:
        """Take an agent's report; a repeated one changes nothing.

        Raises:
            NotFound: there is no such command, or it is another PC's; the report is kept as an orphan.
            Conflict: it contradicts how the command ended; the report is kept as evidence.
        """
        taken = await self._outside.store.write_grouped(self._take_reports, report)
        self._outside.announcer.announce("commands", report.agent_id)
        if isinstance(taken, Reco3Error):
            raise taken
        if taken.type is CommandType.NOTIFY_OPS:
            self._outside.announcer.announce("incidents", taken.agent_id)
        return taken

    async def orphans(self, *, before_id: int | None, limit: int) -> list[RecordedReport]:
        """Reports of commands that this server does not know, newest first."""
        return await self._outside.store.read(lambda tx: tx.reports.orphans(before_id=before_id, limit=limit))

    def _take_reports(self, tx: Transaction, items: Sequence[AgentReport]) -> Sequence[Command | Reco3Error]:
        return [self._take_report(tx, report) for report in items]

    def _take_report(self, tx: Transaction, report: AgentReport) -> Command | Reco3Error:
        now = self._outside.clock()
        command = tx.commands.get(report.command_id)
        if command is None or command.agent_id != report.agent_id:
            _keep_orphan(tx, report, now, is_known=command is not None)
            return NotFound("There is no command of that id for this PC.", code="command_not_found")
        outcome = take_report(command, report, now)
        _keep_report(tx, report, outcome, now)
        if isinstance(outcome, ReportConflict):
            return Conflict(
                f"This command is {command.status} already; the report says {report.status} and is kept as evidence.",
                code="report_conflict",
            )
        if isinstance(outcome, ReportRepeated):
            return command
        taken = outcome.command
        tx.commands.put(taken)
        tx.audit.add([_report_event("agent_report", taken, report, now)])
        if taken.type is CommandType.NOTIFY_OPS and taken.status is CommandStatus.COMPLETED:
            self._incidents.record(tx, _notice_sighting(taken))
        return taken


def _keep_report(tx: Transaction, report: AgentReport, outcome: ReportOutcome, now: datetime) -> None:
    match outcome:
        case ReportConflict():
            verdict = Verdict.CONFLICT
        case ReportRepeated() if outcome.command.result_json == report.result_json or _is_progress(report):
            return
        case ReportRepeated():
            verdict = Verdict.REPEATED
        case _:
            verdict = Verdict.TAKEN
    if tx.reports.count_of(report.command_id) >= MAX_REPORTS_KEPT:
        return
    tx.reports.add(report, verdict, now)
    if verdict is Verdict.CONFLICT:
        tx.audit.add([_report_event("report_conflict", outcome.command, report, now)])


def _is_progress(report: AgentReport) -> bool:
    return report.status in (ReportStatus.ACCEPTED, ReportStatus.RUNNING)


def _keep_orphan(tx: Transaction, report: AgentReport, now: datetime, *, is_known: bool) -> None:
    # Another PC's command is no orphan: whoever guesses ids must not fill the table.
    if is_known or _is_progress(report) or tx.reports.count_orphans(report.agent_id) >= MAX_ORPHANS_KEPT:
        return
    if tx.reports.count_of(report.command_id) > 0:
        return
    tx.reports.add(report, Verdict.ORPHAN, now)
    detail: dict[str, object] = {"status": report.status, "error": report.result.get("error")}
    actor = agent_actor(report.agent_id)
    tx.audit.add([AuditEvent(now, actor, "orphan_report", report.command_id, report.agent_id, detail)])


def _notice_sighting(command: Command) -> Sighting:
    payload = json.loads(command.payload_json)
    severity = payload.get("severity", Severity.INFO)
    at = command.finished_at or command.ts
    return Sighting(command.agent_id, NOTICE_CODE, severity, payload.get("message", ""), at)


def _report_event(event_type: str, command: Command, report: AgentReport, now: datetime) -> AuditEvent:
    detail = {
        "type": command.type,
        "status": report.status,
        "ended": None if command.status in IN_FLIGHT else command.status,
        "error": report.result.get("error"),
        "code": report.result.get("code"),
    }
    return command_event(event_type, command, now, agent_actor(report.agent_id), detail)
