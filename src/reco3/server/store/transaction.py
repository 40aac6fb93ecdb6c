"""Every table inside one transaction: the store's side of the `Transaction` port."""

from functools import cached_property

from sqlalchemy import Connection

from reco3.server.store.agent_keys import AgentKeyTable
from reco3.server.store.agents import AgentTable, Remembered
from reco3.server.store.audit import AuditTable
from reco3.server.store.break_glass import BreakGlassTable
from reco3.server.store.commands import CommandTable
from reco3.server.store.comments import CommentTable
from reco3.server.store.enrolments import EnrolmentTable
from reco3.server.store.facts import FactTable
from reco3.server.store.hints import Hints
from reco3.server.store.history import HistoryTable
from reco3.server.store.incidents import IncidentTable
from reco3.server.store.invitations import InvitationTable
from reco3.server.store.logs import LogTable
from reco3.server.store.open_points import OpenPoints
from reco3.server.store.operator_keys import OperatorKeyTable
from reco3.server.store.operators import OperatorTable
from reco3.server.store.policies import PolicyTable
from reco3.server.store.pulses import PulseCache
from reco3.server.store.reports import ReportTable
from reco3.server.store.sessions import SessionTable
from reco3.server.store.telling import (
    TellingAgentTable,
    TellingCommandTable,
    TellingIncidentTable,
    TellingKeyTable,
    TellingLogTable,
    TellingOperatorTable,
    TellingTrustChangeTable,
)
from reco3.server.store.tokens import TokenTable
from reco3.server.store.trust_changes import TrustChangeTable


class TableTransaction:
    """The tables over one open connection."""

    def __init__(
        self,
        connection: Connection,
        pulses: PulseCache | None = None,
        points: OpenPoints | None = None,
        hints: Hints | None = None,
    ) -> None:
        """`pulses` and `points` are what the only writer remembers; a reader is given the points alone.

        `hints` is given to a writer who has neighbours.
        """
        self._hints = hints
        self._connection = connection
        self._pulses = pulses.begin(connection) if pulses else None
        self._points = points
        self._changes = points.begin(connection) if pulses and points else None

    def keep(self) -> None:
        """The transaction is durable: what it left may be relied on."""
        if self._pulses is not None:
            self._pulses.keep()
        if self._changes is not None:
            self._changes.keep()

    @cached_property
    def agents(self) -> AgentTable:
        """The `agent_status` table."""
        if self._hints is not None:
            return TellingAgentTable(self._connection, self._hints)
        if self._pulses is None or self._changes is None:
            return AgentTable(self._connection)
        return AgentTable(self._connection, Remembered(self._pulses, self._changes))

    @cached_property
    def history(self) -> HistoryTable:
        """The `metric_chunks` and `metric_rollups` tables, and the open points of each PC."""
        return HistoryTable(self._connection, self._points)

    @cached_property
    def logs(self) -> LogTable:
        """The `agent_logs` table."""
        return LogTable(self._connection) if self._hints is None else TellingLogTable(self._connection, self._hints)

    @cached_property
    def commands(self) -> CommandTable:
        """The `agent_commands` and `approvals` tables, and the envelopes that belong to commands."""
        return (
            CommandTable(self._connection)
            if self._hints is None
            else TellingCommandTable(self._connection, self._hints)
        )

    @cached_property
    def comments(self) -> CommentTable:
        """The `command_comments` table."""
        return CommentTable(self._connection)

    @cached_property
    def policies(self) -> PolicyTable:
        """The `approval_policies` table."""
        return PolicyTable(self._connection)

    @cached_property
    def break_glass(self) -> BreakGlassTable:
        """The `break_glass_uses` table."""
        return BreakGlassTable(self._connection)

    @cached_property
    def reports(self) -> ReportTable:
        """The `command_reports` table."""
        return ReportTable(self._connection)

    @cached_property
    def incidents(self) -> IncidentTable:
        """The `incidents` table."""
        return (
            IncidentTable(self._connection)
            if self._hints is None
            else TellingIncidentTable(self._connection, self._hints)
        )

    @cached_property
    def audit(self) -> AuditTable:
        """The `audit_log` table."""
        return AuditTable(self._connection)

    @cached_property
    def keys(self) -> AgentKeyTable:
        """The `agent_keys` table."""
        return (
            AgentKeyTable(self._connection) if self._hints is None else TellingKeyTable(self._connection, self._hints)
        )

    @cached_property
    def enrolments(self) -> EnrolmentTable:
        """The `enrolment_tokens` table."""
        return EnrolmentTable(self._connection)

    @cached_property
    def facts(self) -> FactTable:
        """The `server_facts` table."""
        return FactTable(self._connection)

    @cached_property
    def operators(self) -> OperatorTable:
        """The `operators` table."""
        return (
            OperatorTable(self._connection)
            if self._hints is None
            else TellingOperatorTable(self._connection, self._hints)
        )

    @cached_property
    def sessions(self) -> SessionTable:
        """The `sessions` table."""
        return SessionTable(self._connection)

    @cached_property
    def invitations(self) -> InvitationTable:
        """The `invitations` table."""
        return InvitationTable(self._connection)

    @cached_property
    def operator_keys(self) -> OperatorKeyTable:
        """The `operator_keys` table."""
        return OperatorKeyTable(self._connection)

    @cached_property
    def tokens(self) -> TokenTable:
        """The `api_tokens` table."""
        return TokenTable(self._connection)

    @cached_property
    def trust_changes(self) -> TrustChangeTable:
        """The `trust_changes` table."""
        return (
            TrustChangeTable(self._connection)
            if self._hints is None
            else TellingTrustChangeTable(self._connection, self._hints)
        )
