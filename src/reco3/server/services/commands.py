"""Commands from the request to the report, each step one transaction with its audit row."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reco3.protocol.commands import CommandType, Severity
from reco3.protocol.limits import MAX_COMMANDS_PER_PULL
from reco3.server.domain.agents import Agent
from reco3.server.domain.audit import AuditEvent, agent_actor, user_actor
from reco3.server.domain.commands import (
    AgentReport,
    Approval,
    Command,
    CommandStatus,
    ReportRepeated,
    ReportStatus,
    check_request,
    delivered,
    may_deliver,
    parse_type,
    take_report,
)
from reco3.server.domain.errors import BadInput, Conflict, NotFound
from reco3.server.domain.incidents import NOTICE_CODE, Sighting
from reco3.server.domain.operators import Operator
from reco3.server.services.agents import require_agent
from reco3.server.services.incidents import IncidentRecorder
from reco3.server.services.ports import Cursor, Outside, Transaction
from reco3.server.services.wakeups import Wakeups

AUTOMATIC_APPROVER = "nobody (RECO3_REQUIRE_APPROVAL=0)"


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What an operator asks for, as it came."""

    agent_id: str
    type: str
    payload: Mapping[str, object]


class CommandService:
    """The queue between operators and PCs."""

    def __init__(
        self, outside: Outside, wakeups: Wakeups, incidents: IncidentRecorder, *, approval_required: bool
    ) -> None:
        self._outside = outside
        self._wakeups = wakeups
        self._incidents = incidents
        self._approval_required = approval_required

    async def request(self, request: CommandRequest, operator: Operator) -> Command:
        """Queue a command for a PC.

        Raises:
            BadInput: unknown type or a payload that it does not take.
            NotFound: no PC of that id was ever heard of.
        """
        command_type = parse_type(request.type)
        command = Command(
            id=self._outside.new_id(),
            agent_id=request.agent_id,
            ts=self._outside.clock(),
            type=command_type,
            payload_json=json.dumps(dict(request.payload)),
            status=CommandStatus.PENDING,
            created_by=operator.name,
        )
        await self._outside.store.write(lambda tx: self._add(tx, command, request.payload))
        self._announce(command)
        return command

    async def approve(self, command_id: str, operator: Operator) -> Approval:
        """Record a human's yes; the PC that waits for it is woken at once.

        Raises:
            NotFound: there is no such command.
            BadInput: the command needs no approval.
            Conflict: it is approved already, or not pending any more.
        """
        approval = Approval(self._outside.new_id(), command_id, operator.name, self._outside.clock())
        command = await self._outside.store.write(lambda tx: _approve(tx, approval))
        self._announce(command)
        return approval

    async def pull(self, agent_id: str, *, wait_s: float, gone: asyncio.Future[Any] | None = None) -> list[Command]:
        """The commands this PC should run now, waiting up to `wait_s` for the first.

        `gone` ends once the PC has hung up: nothing is marked delivered to a PC that cannot hear it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        event = self._wakeups.enter(agent_id)
        try:
            while True:
                event.clear()
                commands = await self._deliver(agent_id)
                remaining_s = deadline - loop.time()
                if commands or remaining_s <= 0 or self._wakeups.is_closing:
                    return commands
                if not await _woken(event, remaining_s, gone):
                    return []
        finally:
            self._wakeups.leave(agent_id, event)

    async def report(self, report: AgentReport) -> Command:
        """Take an agent's report; a repeated one changes nothing.

        Raises:
            NotFound: there is no such command, or it is another PC's.
        """
        command = await self._outside.store.write_grouped(self._take_reports, report)
        if isinstance(command, NotFound):
            raise command
        self._outside.announcer.announce("commands", command.agent_id)
        if command.type is CommandType.NOTIFY_OPS:
            self._outside.announcer.announce("incidents", command.agent_id)
        return command

    async def newest(self, *, agent_id: str | None, before: Cursor | None, limit: int) -> list[Command]:
        """Commands, newest first."""
        return await self._outside.store.read(
            lambda tx: tx.commands.newest(agent_id=agent_id, before=before, limit=limit)
        )

    def _add(self, tx: Transaction, command: Command, payload: Mapping[str, object]) -> None:
        _add(tx, command, payload)
        if command.needs_approval and not self._approval_required:
            # The test mode's switch: still a record that says who opened this lock, and how.
            _approve(tx, Approval(self._outside.new_id(), command.id, AUTOMATIC_APPROVER, command.ts))

    def _announce(self, command: Command) -> None:
        self._wakeups.wake(command.agent_id)
        self._outside.announcer.announce("commands", command.agent_id)

    async def _deliver(self, agent_id: str) -> list[Command]:
        if not await self._outside.store.read(lambda tx: self._deliverable(tx, agent_id)):
            return []

        def work(tx: Transaction) -> list[Command]:
            now = self._outside.clock()
            commands = [delivered(command, now) for command in self._deliverable(tx, agent_id)]
            for command in commands:
                tx.commands.put(command)
            if commands:
                tx.audit.add([_pull_event(agent_id, commands)])
            return commands

        commands = await self._outside.store.write(work)
        self._outside.announcer.announce("commands", agent_id)
        return commands

    def _deliverable(self, tx: Transaction, agent_id: str) -> list[Command]:
        now = self._outside.clock()
        in_flight = tx.commands.in_flight(agent_id)
        return [command for command in in_flight if may_deliver(command, now)][:MAX_COMMANDS_PER_PULL]

    def _take_reports(self, tx: Transaction, items: Sequence[AgentReport]) -> Sequence[Command | NotFound]:
        return [self._take_report(tx, report) for report in items]

    def _take_report(self, tx: Transaction, report: AgentReport) -> Command | NotFound:
        command = tx.commands.get(report.command_id)
        if command is None or command.agent_id != report.agent_id:
            return NotFound("There is no command of that id for this PC.", code="command_not_found")
        now = self._outside.clock()
        outcome = take_report(command, report, now)
        if isinstance(outcome, ReportRepeated):
            return command
        taken = outcome.command
        tx.commands.put(taken)
        tx.audit.add([_report_event(taken, report)])
        if taken.type is CommandType.NOTIFY_OPS and report.status is ReportStatus.COMPLETED:
            self._incidents.record(tx, _notice_sighting(taken))
        return taken


async def _woken(event: asyncio.Event, timeout_s: float, gone: asyncio.Future[Any] | None) -> bool:
    """Wait for the event; returns False when the PC hung up first."""
    waiting = asyncio.ensure_future(event.wait())
    others: set[asyncio.Future[Any]] = {gone} if gone is not None else set()
    try:
        await asyncio.wait([waiting, *others], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    return gone is None or not gone.done()


def _add(tx: Transaction, command: Command, payload: Mapping[str, object]) -> None:
    agent = require_agent(tx, command.agent_id)
    check_request(command.type, payload, watched=_watched_names(agent))
    tx.commands.add(command)
    event = AuditEvent(
        ts=command.ts,
        actor=user_actor(command.created_by),
        event_type="command_created",
        ref_id=command.id,
        agent_id=command.agent_id,
        payload={"type": command.type, "payload": dict(payload)},
    )
    tx.audit.add([event])


def _watched_names(agent: Agent) -> list[str] | None:
    metrics = json.loads(agent.payload_json).get("metrics") or {}
    processes = metrics.get("processes")
    if not isinstance(processes, list):
        return None
    # An empty list also comes from older agents that report none; the PC itself refuses what it does not watch.
    return [str(process.get("name")) for process in processes if isinstance(process, dict)] or None


def _approve(tx: Transaction, approval: Approval) -> Command:
    command = tx.commands.get(approval.command_id)
    if command is None:
        raise NotFound("There is no command of that id.", code="command_not_found")
    if not command.needs_approval:
        raise BadInput("type", f"{command.type} needs no approval; it runs at once", code="approval_not_needed")
    if command.approval is not None:
        raise Conflict(f"Approved already by {command.approval.approved_by}.", code="already_approved")
    if command.status is not CommandStatus.PENDING:
        raise Conflict(f"This command is {command.status}; only a pending one can be approved.", code="not_pending")
    tx.commands.add_approval(approval)
    event = AuditEvent(
        ts=approval.approved_at,
        actor=user_actor(approval.approved_by),
        event_type="command_approved",
        ref_id=command.id,
        agent_id=command.agent_id,
        payload={"approval_id": approval.id, "type": command.type, "requested_by": command.created_by},
    )
    tx.audit.add([event])
    return replace(command, approval=approval)


def _notice_sighting(command: Command) -> Sighting:
    payload = json.loads(command.payload_json)
    severity = payload.get("severity", Severity.INFO)
    at = command.finished_at or command.ts
    return Sighting(command.agent_id, NOTICE_CODE, severity, payload.get("message", ""), at)


def _pull_event(agent_id: str, commands: Sequence[Command]) -> AuditEvent:
    return AuditEvent(
        ts=commands[0].delivered_at or commands[0].ts,
        actor=agent_actor(agent_id),
        event_type="agent_pull",
        ref_id=commands[0].id,
        agent_id=agent_id,
        payload={"command_ids": [command.id for command in commands]},
    )


def _report_event(command: Command, report: AgentReport) -> AuditEvent:
    return AuditEvent(
        ts=command.finished_at or command.started_at or command.ts,
        actor=agent_actor(report.agent_id),
        event_type="agent_report",
        ref_id=command.id,
        agent_id=report.agent_id,
        payload={"type": command.type, "status": report.status, "error": report.result.get("error")},
    )
