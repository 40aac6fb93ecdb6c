"""Commands, as operators ask for them, approve, cancel, resolve and read them; and what ends by itself.

Each step is one transaction with its audit row.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reco3.server.domain.agents import Agent
from reco3.server.domain.approvals import NOTHING_MORE, Comment, GivenApproval, PcTrust, processes_of, trust_of
from reco3.server.domain.audit import RecordedEvent, system_actor, user_actor
from reco3.server.domain.commands import (
    NOTHING,
    Approval,
    Command,
    CommandStatus,
    Outcome,
    Pulled,
    RecordedReport,
    Resolution,
    check_request,
    is_expired,
    is_silent,
    lifetimes,
    may_cancel,
    parse_type,
    resolved,
)
from reco3.server.domain.errors import Conflict
from reco3.server.domain.operators import Operator
from reco3.server.services.agents import require_agent
from reco3.server.services.approvals import approve, new_nonce, ready_for_approval, trust_facts
from reco3.server.services.command_rows import command_event, give_up, require_command
from reco3.server.services.deliveries import deliver
from reco3.server.services.ports import Cursor, Outside, Transaction
from reco3.server.services.wakeups import Wakeups

AUTOMATIC_APPROVER = "nobody (RECO3_REQUIRE_APPROVAL=0)"
SWEEP_S = 5.0
MAX_TIMELINE_ROWS = 200
MAX_ASKED = 1_000


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What an operator asks for, as it came; without a lifetime the command's strength decides."""

    agent_id: str
    type: str
    payload: Mapping[str, object]
    reason: str | None = None
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CommandLife:
    """One command with everything that is known of it, oldest first."""

    command: Command
    events: tuple[RecordedEvent, ...]
    reports: tuple[RecordedReport, ...]
    comments: tuple[Comment, ...]
    trust: PcTrust


@dataclass(frozen=True, slots=True)
class TakenApproval:
    """A recorded yes, and the command after it."""

    approval: Approval
    command: Command


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands a list shows."""

    agent_id: str | None = None
    statuses: frozenset[CommandStatus] = frozenset()


class CommandService:
    """What operators do with commands, and what time does."""

    def __init__(self, outside: Outside, wakeups: Wakeups, *, approval_required: bool) -> None:
        self._outside = outside
        self._wakeups = wakeups
        self._approval_required = approval_required
        # Whose the newest commands are, so that an approval need not ask before it can reserve the PC's pull.
        self._asked: OrderedDict[str, str] = OrderedDict()

    async def request(self, request: CommandRequest, operator: Operator) -> Command:
        """Queue a command for a PC.

        Raises:
            BadInput: unknown type, a payload that it does not take, or terms of its policy that it does not meet.
            NotFound: no PC of that id was ever heard of.
        """
        now = self._outside.clock()
        command_type = parse_type(request.type)
        command = Command(
            id=self._outside.new_id(),
            agent_id=request.agent_id,
            ts=now,
            type=command_type,
            payload_json=json.dumps(dict(request.payload)),
            status=CommandStatus.PENDING,
            created_by=operator.name,
            expires_at=now,
            reason=request.reason,
        )
        command = replace(command, expires_at=now + (request.lifetime or lifetimes[command.strength]))
        nonce = new_nonce()
        asked = await self._write_and_deliver(request.agent_id, lambda tx: self._add(tx, command, request, nonce))
        self._asked[command.id] = command.agent_id
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        return asked

    async def approve(self, command_id: str, operator: Operator, given: GivenApproval = NOTHING_MORE) -> TakenApproval:
        """Record a human's yes; with enough of them the PC that waits is woken at once.

        Raises:
            NotFound: there is no such command.
            BadInput: the command needs no approval, or the signature is not one of the approver's over its bytes.
            Conflict: it has enough approvals, is not pending any more, or is not what the approver was shown.
            Forbidden: the approver asked for it himself.
        """
        approval = Approval(
            self._outside.new_id(), command_id, operator.name, self._outside.clock(), given.comment, given.signature
        )
        nonce = new_nonce()
        agent_id = self._asked.get(command_id)
        if agent_id is None:
            agent_id = (await self._outside.store.read(lambda tx: require_command(tx, command_id))).agent_id
        command = await self._write_and_deliver(agent_id, lambda tx: approve(tx, approval, given, nonce=nonce))
        return TakenApproval(approval, command)

    async def cancel(self, command_id: str, operator: Operator, *, reason: str | None) -> CommandStatus | None:
        """Take a command back; returns its new status, or None when the PC must be asked first.

        Raises:
            NotFound: there is no such command.
            Conflict: it has ended, or the PC has begun.
        """
        now = self._outside.clock()
        command = await self._outside.store.write(lambda tx: _cancel(tx, command_id, operator, now, reason=reason))
        self._announce(command)
        return command.status if command.status is CommandStatus.CANCELLED else None

    async def resolve(self, command_id: str, operator: Operator, *, outcome: Outcome, reason: str) -> Command:
        """Record a person's word on what became of an `unknown` command.

        Raises:
            NotFound: there is no such command.
            Conflict: its fate is not unknown.
        """
        resolution = Resolution(outcome, reason, operator.name, self._outside.clock())
        command = await self._outside.store.write(lambda tx: _resolve(tx, command_id, resolution))
        self._announce(command)
        return command

    async def newest(self, wanted: CommandFilter, *, before: Cursor | None, limit: int) -> list[Command]:
        """Commands, newest first."""
        return await self._outside.store.read(
            lambda tx: tx.commands.newest(
                agent_id=wanted.agent_id, statuses=wanted.statuses, before=before, limit=limit
            )
        )

    async def life(self, command_id: str) -> CommandLife:
        """One command with its timeline and every report about it.

        Raises:
            NotFound: there is no such command.
        """

        def query(tx: Transaction) -> CommandLife:
            command = require_command(tx, command_id)
            events = tx.audit.about(command_id, limit=MAX_TIMELINE_ROWS)
            return CommandLife(
                command,
                tuple(events),
                tuple(tx.reports.of(command_id)),
                tuple(tx.comments.of(command_id)),
                trust_of(require_agent(tx, command.agent_id)),
            )

        return await self._outside.store.read(query)

    async def sweep(self) -> float:
        """End what has waited or been silent for too long; returns after how many seconds to look again."""
        now = self._outside.clock()
        due = await self._outside.store.read(lambda tx: _overdue(tx, now)) if self._outside.store.is_leading else []
        if due:
            for command in await self._outside.store.write(lambda tx: _end_overdue(tx, now)):
                self._outside.announcer.announce("commands", command.agent_id)
        self._wakeups.load(await self._outside.store.read(lambda tx: tx.commands.agents_in_flight()))
        return SWEEP_S

    def _add(self, tx: Transaction, command: Command, request: CommandRequest, nonce: str) -> Command:
        agent = require_agent(tx, command.agent_id)
        check_request(command.type, request.payload, watched=_watched_names(agent))
        if command.needs_approval:
            command = ready_for_approval(
                tx,
                command,
                agent,
                lifetime=request.lifetime,
                approval_required=self._approval_required,
                nonce=nonce,
            )
        _store(tx, command, request.payload, trust_of(agent))
        if command.needs_approval and not self._approval_required and not trust_of(agent).verifies:
            # The test mode's switch: still a record that says who opened this lock, and how.
            automatic = Approval(self._outside.new_id(), command.id, AUTOMATIC_APPROVER, command.ts)
            return approve(tx, automatic, NOTHING_MORE, nonce=nonce)
        return command

    async def _write_and_deliver(self, agent_id: str, work: Callable[[Transaction], Command]) -> Command:
        """Do the work; when its PC holds a pull open, deliver in the same transaction and answer that pull at once."""
        held = self._wakeups.reserve(agent_id)

        def both(tx: Transaction) -> tuple[Command, Pulled]:
            command = work(tx)
            if held is None:
                return command, NOTHING
            return command, deliver(tx, agent_id, held.held_by_journal, self._outside.clock())

        try:
            command, pulled = await self._outside.store.write(both)
        except BaseException:
            if held is not None:
                held.resume()
            raise
        if held is None:
            self._announce(command)
            return command
        if pulled != NOTHING:
            self._wakeups.note(agent_id)
            held.give(pulled)
        else:
            # The transaction looked for this pull already; another one may stand for another journal.
            self._wakeups.wake(agent_id, unless=held.wake)
            held.resume()
        self._outside.announcer.announce("commands", agent_id)
        return command

    def _announce(self, command: Command) -> None:
        self._wakeups.wake(command.agent_id)
        self._outside.announcer.announce("commands", command.agent_id)


def _store(tx: Transaction, command: Command, payload: Mapping[str, object], trust: PcTrust) -> None:
    tx.commands.add(command)
    if command.envelope is not None:
        tx.commands.put_envelope(command.id, command.envelope, command.ts)
    detail: dict[str, object] = {
        "type": command.type,
        "payload": dict(payload),
        "expires_at": command.expires_at.isoformat(),
    }
    if command.reason is not None:
        detail["reason"] = command.reason
    if command.needs_approval:
        detail |= {"approvals_required": command.approvals_required, "four_eyes": command.four_eyes}
        detail |= trust_facts(trust)
    tx.audit.add([command_event("command_created", command, command.ts, user_actor(command.created_by), detail)])


def _watched_names(agent: Agent) -> list[str] | None:
    processes = processes_of(agent)
    # An empty list also comes from older agents that report none; the PC itself refuses what it does not watch.
    return [str(process.get("name")) for process in processes or ()] or None


def _cancel(tx: Transaction, command_id: str, operator: Operator, now: datetime, *, reason: str | None) -> Command:
    command = require_command(tx, command_id)
    if not may_cancel(command):
        raise Conflict(_why_not_cancellable(command), code="not_cancellable")
    is_pending = command.status is CommandStatus.PENDING
    if is_pending:
        changed = replace(command, status=CommandStatus.CANCELLED, finished_at=now, cancel_requested_at=now)
    else:
        changed = replace(command, cancel_requested_at=now)
    tx.commands.put(changed)
    name = "command_cancelled" if is_pending else "command_cancel_requested"
    tx.audit.add([command_event(name, changed, now, user_actor(operator.name), {"reason": reason} if reason else {})])
    return changed


def _why_not_cancellable(command: Command) -> str:
    if command.cancel_requested_at is not None and command.status is CommandStatus.DELIVERED:
        return "The PC has been asked already to leave this command."
    if command.status is CommandStatus.DELIVERED:
        return "This PC's agent has no journal, so a delivered command cannot be taken back."
    return f"This command is {command.status}; only one that has not begun can be cancelled."


def _resolve(tx: Transaction, command_id: str, resolution: Resolution) -> Command:
    command = require_command(tx, command_id)
    if command.status is not CommandStatus.UNKNOWN:
        raise Conflict(f"This command is {command.status}; only an unknown one can be resolved.", code="not_unknown")
    changed = resolved(command, resolution)
    tx.commands.put(changed)
    detail = {"outcome": resolution.outcome, "reason": resolution.reason, "status": changed.status}
    actor = user_actor(resolution.resolved_by)
    tx.audit.add([command_event("command_resolved", changed, resolution.resolved_at, actor, detail)])
    return changed


def _overdue(tx: Transaction, now: datetime) -> list[Command]:
    return [command for command in tx.commands.open_before(now) if is_expired(command, now) or is_silent(command, now)]


def _end_overdue(tx: Transaction, now: datetime) -> list[Command]:
    overdue = _overdue(tx, now)
    for command in overdue:
        if is_expired(command, now):
            expired = replace(command, status=CommandStatus.EXPIRED, finished_at=now)
            tx.commands.put(expired)
            tx.audit.add([command_event("command_expired", expired, now, system_actor("expiry"), {})])
        else:
            give_up(tx, command, now, why="the PC got this command and has been silent since")
    return overdue
