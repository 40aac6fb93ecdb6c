"""What every use case about commands shares: finding one, giving one up, and the shape of its audit rows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.domain.commands import Command, CommandStatus
from reco3.server.domain.errors import NotFound
from reco3.server.services.ports import Transaction


def require_command(tx: Transaction, command_id: str) -> Command:
    """The command of that id.

    Raises:
        NotFound: there is none.
    """
    command = tx.commands.get(command_id)
    if command is None:
        raise NotFound("There is no command of that id.", code="command_not_found")
    return command


def give_up(tx: Transaction, command: Command, now: datetime, *, why: str) -> None:
    """Say that nobody knows what became of a command, and why."""
    unknown = replace(command, status=CommandStatus.UNKNOWN, finished_at=now)
    tx.commands.put(unknown)
    tx.audit.add([command_event("command_unknown", unknown, now, system_actor("silence"), {"why": why})])


def command_event(
    event_type: str, command: Command, now: datetime, actor: str, detail: Mapping[str, object]
) -> AuditEvent:
    """An audit row about a command."""
    return AuditEvent(now, actor, event_type, command.id, command.agent_id, detail)
