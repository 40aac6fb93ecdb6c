"""The `agent_commands` and `approvals` tables."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from reco3.protocol.commands import CommandType
from reco3.server.domain.commands import (
    IN_FLIGHT,
    SILENCE_S,
    Approval,
    Command,
    CommandStatus,
    Expectation,
    Outcome,
    Resolution,
)
from reco3.server.domain.errors import Conflict
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
        """Store what has changed of a command, if nobody changed it since it was read.

        Raises:
            Conflict: somebody did; the whole transaction must be done anew.
        """
        changes = {**_row(command), "version": command.version + 1}
        is_unchanged = (agent_commands.c.id == command.id) & (agent_commands.c.version == command.version)
        if self._connection.execute(update(agent_commands).where(is_unchanged).values(changes)).rowcount != 1:
            raise Conflict("This command was changed by somebody else meanwhile; look again.", code="changed_meanwhile")

    def in_flight(self, agent_id: str) -> list[Command]:
        """A PC's commands that have not ended, oldest first."""
        query = (
            _query()
            .where(agent_commands.c.agent_id == agent_id, agent_commands.c.status.in_(sorted(IN_FLIGHT)))
            .order_by(agent_commands.c.ts, agent_commands.c.id)
        )
        return [_command(row) for row in self._connection.execute(query)]

    def agents_in_flight(self) -> list[str]:
        """The PCs with a command that has not ended."""
        query = select(agent_commands.c.agent_id).where(agent_commands.c.status.in_(sorted(IN_FLIGHT))).distinct()
        return list(self._connection.execute(query).scalars())

    def open_before(self, now: datetime) -> list[Command]:
        """Commands of all PCs that have not ended and whose time may be up."""
        long_ago = now - timedelta(seconds=SILENCE_S)
        query = _query().where(
            agent_commands.c.status.in_(sorted(IN_FLIGHT)),
            or_(
                agent_commands.c.expires_at.is_(None),
                agent_commands.c.expires_at <= now,
                agent_commands.c.delivered_at <= long_ago,
            ),
        )
        return [_command(row) for row in self._connection.execute(query)]

    def newest(
        self, *, agent_id: str | None, statuses: Collection[CommandStatus], before: Cursor | None, limit: int
    ) -> list[Command]:
        """Commands before a cursor, newest first."""
        query = _query().order_by(agent_commands.c.ts.desc(), agent_commands.c.id.desc()).limit(limit)
        if agent_id is not None:
            query = query.where(agent_commands.c.agent_id == agent_id)
        if statuses:
            query = query.where(agent_commands.c.status.in_(sorted(statuses)))
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


_plain_columns = (
    "id",
    "agent_id",
    "ts",
    "payload_json",
    "created_by",
    "reason",
    "result_json",
    "delivered_at",
    "delivery_count",
    "journal",
    "accepted_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "cancel_told_at",
)


def _row(command: Command) -> dict[str, object]:
    resolution, expectation = command.resolution, command.expectation
    return {
        **{name: getattr(command, name) for name in _plain_columns},
        "type": command.type.value,
        "status": command.status.value,
        "expires_at": command.expires_at,
        "version": command.version,
        "expect_json": _expect_json(expectation) if expectation else None,
        "resolution": resolution.outcome.value if resolution else None,
        "resolution_reason": resolution.reason if resolution else None,
        "resolved_by": resolution.resolved_by if resolution else None,
        "resolved_at": resolution.resolved_at if resolution else None,
    }


def _command(row: Row[Any]) -> Command:
    return Command(
        **{name: getattr(row, name) for name in _plain_columns},
        type=CommandType(row.type),
        status=CommandStatus(row.status),
        # A command from before commands expired has waited long enough.
        expires_at=row.expires_at or row.ts,
        version=row.version,
        approval=_approval(row),
        expectation=_expectation(row.expect_json),
        resolution=_resolution(row),
    )


def _approval(row: Row[Any]) -> Approval | None:
    if row.approval_id is None:
        return None
    return Approval(row.approval_id, row.id, row.approved_by, row.approved_at)


def _expect_json(expectation: Expectation) -> str:
    return json.dumps({"pid": expectation.pid, "create_time_ms": expectation.create_time_ms})


def _expectation(text: str | None) -> Expectation | None:
    return Expectation(**json.loads(text)) if text else None


def _resolution(row: Row[Any]) -> Resolution | None:
    if row.resolution is None:
        return None
    return Resolution(Outcome(row.resolution), row.resolution_reason, row.resolved_by, row.resolved_at)
