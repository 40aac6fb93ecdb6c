"""The `agent_logs` table and the positions of numbered streams."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, tuple_

from reco3.server.domain.logs import LogLine, LogStream
from reco3.server.services.ports import ErrorTally
from reco3.server.store.bulk import BulkInsert
from reco3.server.store.tables import agent_logs, log_positions

_ERROR_LEVELS = ("ERROR", "CRITICAL")
_ADD = BulkInsert(agent_logs, ("agent_id", "ts", "level", "code", "msg", "meta_json", "created_at"))
_ADVANCE = BulkInsert(
    log_positions,
    ("agent_id", "stream", "epoch", "acked_seq"),
    "ON CONFLICT (agent_id, stream, epoch) DO UPDATE SET acked_seq = excluded.acked_seq",
)
_STREAMS_PER_QUERY = 1_000
_encode = msgspec.json.Encoder().encode

# SQLite walks through the whole table for `(a, b, c) IN (VALUES …)`; joined this way round it seeks each stream.
_HELD_AS_ONE_TEXT = (
    "SELECT json_group_array(json_array(held.agent_id, held.stream, held.epoch, held.acked_seq)) "
    "FROM json_each(?) AS wanted CROSS JOIN log_positions AS held "
    "ON held.agent_id = json_extract(wanted.value, '$[0]') AND held.stream = json_extract(wanted.value, '$[1]') "
    "AND held.epoch = json_extract(wanted.value, '$[2]')"
)
_decode_held = msgspec.json.Decoder(list[tuple[str, str, str, int]]).decode


class LogTable:
    """Reads and writes log lines inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, lines: Sequence[LogLine]) -> None:
        """Append lines."""
        _ADD.run(self._connection, [_row(line) for line in lines])

    def acked_seqs(self, streams: Collection[LogStream]) -> dict[LogStream, int]:
        """The highest number held of each stream; a new one is left out."""
        wanted = [(one.agent_id, one.stream, one.epoch) for one in streams]
        held: dict[LogStream, int] = {}
        for start in range(0, len(wanted), _STREAMS_PER_QUERY):
            found = self._held(wanted[start : start + _STREAMS_PER_QUERY])
            held |= {LogStream(*key): acked_seq for *key, acked_seq in found}
        return held

    def _held(self, wanted: Sequence[tuple[str, str, str]]) -> Iterable[Sequence[Any]]:
        if self._connection.dialect.name == "sqlite":
            text = self._connection.exec_driver_sql(_HELD_AS_ONE_TEXT, (_encode(wanted).decode(),)).scalar_one()
            return _decode_held(text)
        key = tuple_(log_positions.c.agent_id, log_positions.c.stream, log_positions.c.epoch)
        return self._connection.execute(select(log_positions).where(key.in_(wanted)))

    def advance(self, acked_seqs: Mapping[LogStream, int]) -> None:
        """Remember the highest number held of each stream."""
        rows = [(one.agent_id, one.stream, one.epoch, acked_seq) for one, acked_seq in acked_seqs.items()]
        _ADVANCE.run(self._connection, rows)

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


def _row(line: LogLine) -> tuple[object, ...]:
    meta_json = _encode(line.meta).decode()
    return (line.agent_id, line.ts, line.level, line.code, line.msg, meta_json, line.created_at)


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
