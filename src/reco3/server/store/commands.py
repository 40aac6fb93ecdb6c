"""The `agent_commands` and `approvals` tables."""

from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from reco3.protocol.commands import CommandType
from reco3.server.domain.commands import IN_FLIGHT, Approval, Command, CommandStatus
from reco3.server.services.ports import Cursor
from reco3.server.store.paging import is_before
from reco3.server.store.tables import agent_commands, approvals


class CommandTable:
    """Reads and writes commands with their approvals inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, command: Command) -> None:
        """Insert a new command."""
        self._connection.execute(insert(agent_commands), [{**_row(command), "created_at": command.ts}])

    def get(self, command_id: str) -> Command | None:
        """The command of that id."""
        row = self._connection.execute(_query().where(agent_commands.c.id == command_id)).one_or_none()
        return _command(row) if row else None

    def put(self, command: Command) -> None:
        """Store what has changed of a command."""
        changes = _row(command)
        self._connection.execute(update(agent_commands).where(agent_commands.c.id == command.id).values(changes))

    def in_flight(self, agent_id: str) -> list[Command]:
        """A PC's commands that have not ended, oldest first."""
        query = (
            _query()
            .where(agent_commands.c.agent_id == agent_id, agent_commands.c.status.in_(sorted(IN_FLIGHT)))
            .order_by(agent_commands.c.ts, agent_commands.c.id)
        )
        return [_command(row) for row in self._connection.execute(query)]

    def newest(self, *, agent_id: str | None, before: Cursor | None, limit: int) -> list[Command]:
        """Commands before a cursor, newest first."""
        query = _query().order_by(agent_commands.c.ts.desc(), agent_commands.c.id.desc()).limit(limit)
        if agent_id is not None:
            query = query.where(agent_commands.c.agent_id == agent_id)
        if before is not None:
            query = query.where(is_before(agent_commands.c.ts, agent_commands.c.id, before))
        return [_command(row) for row in self._connection.execute(query)]

    def add_approval(self, approval: Approval) -> None:
        """Insert a human's yes."""
        row = {
            "id": approval.id,
            "command_id": approval.command_id,
            "approved_by": approval.approved_by,
            "approved_at": approval.approved_at,
        }
        self._connection.execute(insert(approvals), [row])


def _query() -> Select[Any]:
    return select(
        agent_commands,
        approvals.c.id.label("approval_id"),
        approvals.c.approved_by,
        approvals.c.approved_at,
    ).outerjoin(approvals, approvals.c.command_id == agent_commands.c.id)


def _row(command: Command) -> dict[str, object]:
    return {
        "id": command.id,
        "agent_id": command.agent_id,
        "ts": command.ts,
        "type": command.type.value,
        "payload_json": command.payload_json,
        "status": command.status.value,
        "result_json": command.result_json,
        "created_by": command.created_by,
        "delivered_at": command.delivered_at,
        "started_at": command.started_at,
        "finished_at": command.finished_at,
    }


def _command(row: Row[Any]) -> Command:
    return Command(
        id=row.id,
        agent_id=row.agent_id,
        ts=row.ts,
        type=CommandType(row.type),
        payload_json=row.payload_json,
        status=CommandStatus(row.status),
        created_by=row.created_by,
        result_json=row.result_json,
        delivered_at=row.delivered_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        approval=_approval(row),
    )


def _approval(row: Row[Any]) -> Approval | None:
    if row.approval_id is None:
        return None
    return Approval(row.approval_id, row.id, row.approved_by, row.approved_at)
