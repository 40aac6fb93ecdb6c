"""The `agent_commands` and `approvals` tables, and the envelopes that belong to commands."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, or_, select, update

from reco3.protocol.commands import CommandType
from reco3.protocol.envelope import Signature, read_signature, signature_shape
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
from reco3.server.domain.envelopes import StoredEnvelope
from reco3.server.domain.errors import Conflict
from reco3.server.services.ports import Cursor
from reco3.server.store.paging import is_before
from reco3.server.store.tables import agent_commands, approvals, command_envelopes

MAX_IDS_PER_QUERY = 500


class CommandTable:
    """Reads and writes commands with their approvals inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, command: Command) -> None:
        """Insert a new command."""
        self._connection.execute(insert(agent_commands), [{**_row(command), "created_at": command.ts}])

    def get(self, command_id: str) -> Command | None:
        """The command of that id."""
        found = self._read(_query().where(agent_commands.c.id == command_id))
        return found[0] if found else None

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
        return self._read(query)

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
        return self._read(query)

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
        return self._read(query)

    def add_approval(self, approval: Approval) -> None:
        """Insert a human's yes."""
        signature = approval.signature
        row = {
            "id": approval.id,
            "command_id": approval.command_id,
            "approved_by": approval.approved_by,
            "approved_at": approval.approved_at,
            "comment": approval.comment,
            "key_id": signature.key_id if signature else None,
            "signature_json": json.dumps(signature_shape(signature)) if signature else None,
        }
        self._connection.execute(insert(approvals), [row])

    def put_envelope(self, command_id: str, envelope: StoredEnvelope, now: datetime) -> None:
        """Store the bytes to be signed, in place of those that nobody has signed."""
        self._connection.execute(delete(command_envelopes).where(command_envelopes.c.command_id == command_id))
        row = {
            "command_id": command_id,
            "payload_type": envelope.payload_type,
            "body": envelope.body,
            "created_at": now,
        }
        self._connection.execute(insert(command_envelopes), [row])

    def _read(self, query: Select[Any]) -> list[Command]:
        commands = [_command(row) for row in self._connection.execute(query)]
        given = self._approvals_of([command.id for command in commands if command.needs_approval])
        return [replace(one, approvals=tuple(given[one.id])) if one.id in given else one for one in commands]

    def _approvals_of(self, command_ids: Sequence[str]) -> dict[str, list[Approval]]:
        given: defaultdict[str, list[Approval]] = defaultdict(list)
        for ids in _portions(command_ids):
            query = select(approvals).where(approvals.c.command_id.in_(ids))
            for row in self._connection.execute(query.order_by(approvals.c.approved_at, approvals.c.id)):
                given[row.command_id].append(_approval(row))
        return given


def _portions(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + MAX_IDS_PER_QUERY] for start in range(0, len(ids), MAX_IDS_PER_QUERY))


def _query() -> Select[Any]:
    return select(
        agent_commands,
        command_envelopes.c.payload_type.label("envelope_type"),
        command_envelopes.c.body.label("envelope_body"),
    ).outerjoin(command_envelopes, command_envelopes.c.command_id == agent_commands.c.id)


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
    "approvals_required",
    "four_eyes",
    "rejected_by",
    "rejection_reason",
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
        envelope=StoredEnvelope(row.envelope_type, bytes(row.envelope_body)) if row.envelope_type else None,
        expectation=_expectation(row.expect_json),
        resolution=_resolution(row),
    )


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        row.id, row.command_id, row.approved_by, row.approved_at, row.comment, _signature(row.signature_json)
    )


def _signature(text: str | None) -> Signature | None:
    try:
        return read_signature(json.loads(text)) if text else None
    except ValueError:
        # Somebody changed it in the database: it counts as none, on the PC too.
        return None


def _expect_json(expectation: Expectation) -> str:
    return json.dumps({"pid": expectation.pid, "create_time_ms": expectation.create_time_ms})


def _expectation(text: str | None) -> Expectation | None:
    return Expectation(**json.loads(text)) if text else None


def _resolution(row: Row[Any]) -> Resolution | None:
    if row.resolution is None:
        return None
    return Resolution(Outcome(row.resolution), row.resolution_reason, row.resolved_by, row.resolved_at)
