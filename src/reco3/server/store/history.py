"""The `metric_chunks` and `metric_rollups` tables, and the open points in `agent_status`.

Every statement names a PC and a stretch of time, so it walks the primary key and never the table.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, select

from reco3.server.domain.history import (
    MINUTE_S,
    RAW_S,
    ROLLUP_RESOLUTIONS_S,
    WINDOW_S,
    ClosedWindow,
    row_length_s,
)
from reco3.server.domain.rollups import Rollup, Spread, Traffic, merged
from reco3.server.services.ports import Doomed
from reco3.server.store.bulk import BulkInsert
from reco3.server.store.open_points import OpenPoints, read_open_points
from reco3.server.store.tables import agent_status, metric_chunks, metric_rollups

_KEY = ("agent_id", "resolution_s", "start_s")
_SPREADS = ("cpu", "mem", "disk")
_SUMS = (
    "count",
    *(f"{name}_{part}" for name in _SPREADS for part in ("count", "sum")),
    "covered_ms",
    "sent_bytes",
    "recv_bytes",
    "restarts",
)
_LOWEST = tuple(f"{name}_min" for name in _SPREADS)
_HIGHEST = (*(f"{name}_max" for name in _SPREADS), "sent_peak", "recv_peak")
_ROLLUP_COLUMNS = (
    *_KEY,
    "count",
    *(f"{name}_{part}" for name in _SPREADS for part in ("count", "sum", "min", "max")),
    "covered_ms",
    "sent_bytes",
    "recv_bytes",
    "sent_peak",
    "recv_peak",
    "restarts",
)


def _extreme(function: str, column: str) -> str:
    """The lower or higher of what is there and what comes, where either may be NULL."""
    old, new = f"metric_rollups.{column}", f"excluded.{column}"
    return f"{column} = {function}(coalesce({old}, {new}), coalesce({new}, {old}))"


def _merging(*, lower: str, higher: str) -> str:
    changes = [f"{column} = metric_rollups.{column} + excluded.{column}" for column in _SUMS]
    changes += [_extreme(lower, column) for column in _LOWEST]
    changes += [_extreme(higher, column) for column in _HIGHEST]
    return f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {', '.join(changes)}"


# Packs are lists of segments, so a late window is simply joined to what its PC had there before.
# SQLite joins blobs byte by byte too, but calls the result text.
_JOINING = f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET points = "
_ADD_CHUNKS = {
    "sqlite": BulkInsert(
        metric_chunks, (*_KEY, "points"), f"{_JOINING} CAST(metric_chunks.points || excluded.points AS BLOB)"
    ),
    "postgresql": BulkInsert(metric_chunks, (*_KEY, "points"), f"{_JOINING} metric_chunks.points || excluded.points"),
}
_ADD_ROLLUPS = {
    "sqlite": BulkInsert(metric_rollups, _ROLLUP_COLUMNS, _merging(lower="min", higher="max")),
    "postgresql": BulkInsert(metric_rollups, _ROLLUP_COLUMNS, _merging(lower="least", higher="greatest")),
}


class HistoryTable:
    """Reads and writes history inside one transaction."""

    def __init__(self, connection: Connection, points: OpenPoints | None = None) -> None:
        self._connection = connection
        self._points = points

    def add(self, windows: Sequence[ClosedWindow]) -> None:
        """Store closed windows; what a PC already has for the same time is kept and joined."""
        kind = self._connection.dialect.name
        _ADD_CHUNKS[kind].run(self._connection, list(_chunk_rows(windows)))
        _ADD_ROLLUPS[kind].run(self._connection, list(_rollup_rows(windows)))

    def open_points(self, agent_id: str) -> str:
        """The text of a PC's open window."""
        known = self._points.get(agent_id) if self._points and self._points.is_loaded else None
        return read_open_points(self._connection, agent_id, known)

    def chunks(self, agent_id: str, *, resolution_s: int, start_s: int, end_s: int) -> list[bytes]:
        """A PC's packs of the windows that touch a stretch of time, oldest first."""
        table = metric_chunks
        query = (
            select(table.c.points)
            .where(table.c.agent_id == agent_id, table.c.resolution_s == resolution_s)
            .where(table.c.start_s > start_s - WINDOW_S, table.c.start_s < end_s)
            .order_by(table.c.start_s)
        )
        return list(self._connection.execute(query).scalars())

    def rollups(self, agent_id: str, *, resolution_s: int, start_s: int, end_s: int) -> list[Rollup]:
        """A PC's roll-ups that touch a stretch of time, oldest first."""
        table = metric_rollups
        query = (
            select(*[table.c[name] for name in _ROLLUP_COLUMNS])
            .where(table.c.agent_id == agent_id, table.c.resolution_s == resolution_s)
            .where(table.c.start_s > start_s - resolution_s, table.c.start_s < end_s)
            .order_by(table.c.start_s)
        )
        return [_rollup(row) for row in self._connection.execute(query)]

    def agent_ids(self, *, after: str, limit: int) -> list[str]:
        """The PCs after an id, in the order of their ids."""
        query = select(agent_status.c.agent_id).where(agent_status.c.agent_id > after)
        return list(self._connection.execute(query.order_by(agent_status.c.agent_id).limit(limit)).scalars())

    def doomed(self, agent_ids: Sequence[str], *, resolution_s: int, before_s: int) -> dict[str, Doomed]:
        """Of these PCs, those with rows of a resolution that ended before a moment, and how many."""
        table = _table_of(resolution_s)
        query = (
            select(table.c.agent_id, func.count(), func.min(table.c.start_s))
            .where(*_ended(table, agent_ids, resolution_s, before_s))
            .group_by(table.c.agent_id)
        )
        return {row[0]: Doomed(row[1], row[2]) for row in self._connection.execute(query)}

    def prune(self, agent_ids: Sequence[str], *, resolution_s: int, before_s: int) -> int:
        """Delete these PCs' rows of a resolution that ended before a moment; returns how many."""
        table = _table_of(resolution_s)
        return self._connection.execute(delete(table).where(*_ended(table, agent_ids, resolution_s, before_s))).rowcount


def _table_of(resolution_s: int) -> Table:
    return metric_rollups if resolution_s in ROLLUP_RESOLUTIONS_S else metric_chunks


def _ended(table: Table, agent_ids: Sequence[str], resolution_s: int, before_s: int) -> Iterator[ColumnElement[bool]]:
    yield table.c.agent_id.in_(agent_ids)
    yield table.c.resolution_s == resolution_s
    yield table.c.start_s <= before_s - row_length_s(resolution_s)


def _chunk_rows(windows: Iterable[ClosedWindow]) -> Iterator[tuple[object, ...]]:
    packs: dict[tuple[str, int, int], bytes] = {}
    for window in windows:
        for resolution_s, pack in ((RAW_S, window.raw), (MINUTE_S, window.minutes)):
            key = (window.agent_id, resolution_s, window.start_s)
            packs[key] = packs.get(key, b"") + pack
    return ((*key, pack) for key, pack in packs.items())


def _rollup_rows(windows: Iterable[ClosedWindow]) -> Iterator[tuple[object, ...]]:
    """One row a key: PostgreSQL refuses to update a row twice in one statement."""
    groups: dict[tuple[str, int, int], list[Rollup]] = {}
    for window in windows:
        for resolution_s in ROLLUP_RESOLUTIONS_S:
            for quarter in window.quarters:
                at_s = quarter.at_ms // 1000
                key = (window.agent_id, resolution_s, at_s - at_s % resolution_s)
                groups.setdefault(key, []).append(quarter)
    return ((*key, *_values(_together(group))) for key, group in groups.items())


def _together(rollups: Sequence[Rollup]) -> Rollup:
    return rollups[0] if len(rollups) == 1 else merged(rollups, at_ms=rollups[0].at_ms)


def _values(rollup: Rollup) -> tuple[object, ...]:
    traffic = rollup.traffic
    return (
        rollup.count,
        *_spread_values(rollup.cpu),
        *_spread_values(rollup.mem),
        *_spread_values(rollup.disk),
        traffic.covered_ms,
        traffic.sent_bytes,
        traffic.recv_bytes,
        traffic.sent_peak,
        traffic.recv_peak,
        rollup.restarts,
    )


def _spread_values(spread: Spread) -> tuple[object, ...]:
    if spread.count == 0:
        return 0, 0, None, None
    return spread.count, spread.total, spread.lowest, spread.highest


def _rollup(row: Row[Any]) -> Rollup:
    return Rollup(
        at_ms=row.start_s * 1000,
        count=row[len(_KEY)],
        cpu=_spread(row, "cpu"),
        mem=_spread(row, "mem"),
        disk=_spread(row, "disk"),
        traffic=Traffic(row.covered_ms, row.sent_bytes, row.recv_bytes, row.sent_peak, row.recv_peak),
        restarts=row.restarts,
    )


def _spread(row: Row[Any], name: str) -> Spread:
    count, total, lowest, highest = (row._mapping[f"{name}_{part}"] for part in ("count", "sum", "min", "max"))  # noqa: SLF001 - SQLAlchemy's public name
    return Spread(count, total, lowest or 0, highest or 0)
