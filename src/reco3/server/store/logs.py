"""The `agent_logs` table and the positions of numbered streams."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from reco3.server.domain.logs import LogLine, LogPosition
from reco3.server.services.ports import ErrorTally
from reco3.server.store.tables import agent_logs, log_positions
from reco3.server.store.upserts import upsert

_ERROR_LEVELS = ("ERROR", "CRITICAL")


class LogTable:
    """Reads and writes log lines inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, lines: Sequence[LogLine]) -> None:
        """Append lines."""
        if lines:
            self._connection.execute(insert(agent_logs), [_row(line) for line in lines])

    def acked_seq(self, agent_id: str, stream: str, epoch: str) -> int:
        """The highest number held of a stream, 0 when it is new."""
        query = select(log_positions.c.acked_seq).where(
            log_positions.c.agent_id == agent_id, log_positions.c.stream == stream, log_positions.c.epoch == epoch
        )
        return self._connection.execute(query).scalar_one_or_none() or 0

    def advance(self, agent_id: str, position: LogPosition) -> None:
        """Remember the highest number held of a stream."""
        row = {
            "agent_id": agent_id,
            "stream": position.stream,
            "epoch": position.epoch,
            "acked_seq": position.acked_seq,
        }
        self._connection.execute(upsert(self._connection, log_positions), [row])

    def newest(self, agent_id: str, *, before_id: int | None, limit: int) -> list[LogLine]:
        """A PC's lines, the last received first."""
        query = select(agent_logs).where(agent_logs.c.agent_id == agent_id)
        if before_id is not None:
            query = query.where(agent_logs.c.id < before_id)
        query = query.order_by(agent_logs.c.id.desc()).limit(limit)
        return [_line(row) for row in self._connection.execute(query)]

    def error_tallies(self, agent_ids: Sequence[str], *, since: datetime) -> dict[str, ErrorTally]:
        """How many ERROR and CRITICAL lines each PC sent since a moment, and the last of them."""
        tallies = (
            select(agent_logs.c.agent_id, func.count().label("count"), func.max(agent_logs.c.id).label("last_id"))
            .where(
                agent_logs.c.agent_id.in_(agent_ids),
                agent_logs.c.level.in_(_ERROR_LEVELS),
                agent_logs.c.created_at >= since,
            )
            .group_by(agent_logs.c.agent_id)
            .subquery()
        )
        query = select(tallies.c.agent_id, tallies.c.count, agent_logs.c.msg, agent_logs.c.created_at).join(
            agent_logs, agent_logs.c.id == tallies.c.last_id
        )
        return {row[0]: ErrorTally(row[1], row[2], row[3]) for row in self._connection.execute(query)}

    def prune(self, before: datetime, *, limit: int) -> int:
        """Delete at most `limit` lines received before a moment, the oldest rows first; returns how many."""
        newest_kept = (
            select(agent_logs.c.id).where(agent_logs.c.created_at >= before).order_by(agent_logs.c.id).limit(1)
        )
        first_kept_id = self._connection.execute(newest_kept).scalar_one_or_none()
        doomed = select(agent_logs.c.id).order_by(agent_logs.c.id).limit(limit)
        if first_kept_id is not None:
            doomed = doomed.where(agent_logs.c.id < first_kept_id)
        return self._connection.execute(delete(agent_logs).where(agent_logs.c.id.in_(doomed))).rowcount


def _row(line: LogLine) -> dict[str, object]:
    return {
        "agent_id": line.agent_id,
        "ts": line.ts,
        "level": line.level,
        "code": line.code,
        "msg": line.msg,
        "meta_json": json.dumps(line.meta),
        "created_at": line.created_at,
    }


def _line(row: Row[Any]) -> LogLine:
    return LogLine(
        agent_id=row.agent_id,
        ts=row.ts,
        level=row.level,
        code=row.code,
        msg=row.msg,
        meta=json.loads(row.meta_json),
        created_at=row.created_at,
        id=row.id,
    )
