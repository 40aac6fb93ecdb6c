"""The append-only `audit_log` table: rows are added and read, nothing else."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from reco3.server.domain.audit import AuditEvent, RecordedEvent, Stream
from reco3.server.store.bulk import BulkInsert
from reco3.server.store.tables import audit_log

_ADD = BulkInsert(audit_log, ("ts", "actor", "event_type", "ref_id", "agent_id", "payload_json", "stream"))


class AuditTable:
    """Appends and reads audit rows inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, events: Sequence[AuditEvent]) -> None:
        """Append rows."""
        if events:
            _ADD.run(self._connection, [_row(event) for event in events])

    def newest(
        self, *, event_type: str | None, actor: str | None, before_id: int | None, limit: int
    ) -> list[RecordedEvent]:
        """Rows before a row number, newest first."""
        query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if event_type is not None:
            query = query.where(audit_log.c.event_type == event_type)
        if actor is not None:
            query = query.where(audit_log.c.actor == actor)
        if before_id is not None:
            query = query.where(audit_log.c.id < before_id)
        return [RecordedEvent(row.id, _event(row)) for row in self._connection.execute(query)]

    def about(self, ref_id: str, *, limit: int) -> list[RecordedEvent]:
        """The first rows about one thing, oldest first."""
        query = select(audit_log).where(audit_log.c.ref_id == ref_id).order_by(audit_log.c.id).limit(limit)
        return [RecordedEvent(row.id, _event(row)) for row in self._connection.execute(query)]


def _row(event: AuditEvent) -> tuple[object, ...]:
    return (
        event.ts,
        event.actor,
        event.event_type,
        event.ref_id,
        event.agent_id,
        json.dumps(event.payload),
        event.stream.value,
    )


def _event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        ts=row.ts,
        actor=row.actor,
        event_type=row.event_type,
        ref_id=row.ref_id,
        agent_id=row.agent_id,
        payload=json.loads(row.payload_json),
        stream=Stream(row.stream),
    )
