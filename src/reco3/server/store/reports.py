"""The `command_reports` table: what PCs said of commands, kept as evidence."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from reco3.server.domain.commands import AgentReport, RecordedReport, ReportStatus, Verdict
from reco3.server.store.tables import command_reports


class ReportTable:
    """Appends and reads reports inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, report: AgentReport, verdict: Verdict, now: datetime) -> None:
        """Append a report with what became of it."""
        row = {
            "command_id": report.command_id,
            "agent_id": report.agent_id,
            "received_at": now,
            "status": report.status.value,
            "result_json": report.result_json,
            "verdict": verdict.value,
        }
        self._connection.execute(insert(command_reports), [row])

    def of(self, command_id: str) -> list[RecordedReport]:
        """Every report about a command, oldest first."""
        query = select(command_reports).where(command_reports.c.command_id == command_id).order_by(command_reports.c.id)
        return [_report(row) for row in self._connection.execute(query)]

    def count_of(self, command_id: str) -> int:
        """How many reports are kept of a command."""
        query = select(func.count()).select_from(command_reports).where(command_reports.c.command_id == command_id)
        return self._connection.execute(query).scalar_one()

    def orphans(self, *, before_id: int | None, limit: int) -> list[RecordedReport]:
        """Reports of commands that this server does not know, newest first."""
        query = (
            select(command_reports)
            .where(command_reports.c.verdict == Verdict.ORPHAN.value)
            .order_by(command_reports.c.id.desc())
            .limit(limit)
        )
        if before_id is not None:
            query = query.where(command_reports.c.id < before_id)
        return [_report(row) for row in self._connection.execute(query)]

    def count_orphans(self, agent_id: str) -> int:
        """How many orphans are kept of a PC."""
        query = (
            select(func.count())
            .select_from(command_reports)
            .where(command_reports.c.verdict == Verdict.ORPHAN.value, command_reports.c.agent_id == agent_id)
        )
        return self._connection.execute(query).scalar_one()


def _report(row: Row[Any]) -> RecordedReport:
    return RecordedReport(
        id=row.id,
        command_id=row.command_id,
        agent_id=row.agent_id,
        received_at=row.received_at,
        status=ReportStatus(row.status),
        result_json=row.result_json,
        verdict=Verdict(row.verdict),
    )
