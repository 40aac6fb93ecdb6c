"""History in windows: open points in the PC's row, packed chunks, and roll-ups; the samples of before move there."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from reco3.server.domain.history import MINUTE_S, QUARTER_S, RAW_S, TWO_HOURS_S, ClosedWindow, regrouped, windows_of
from reco3.server.domain.metrics import Sample
from reco3.server.domain.points import point_text, read_points
from reco3.server.domain.rollups import Rollup, Spread
from reco3.server.store.tables import UtcTime

revision = "0003"
down_revision = "0002"

_SHARES = ("cpu", "mem", "disk")
_ROWS_AT_ONCE = 1_000

_samples = sa.table(
    "metric_samples",
    sa.column("agent_id", sa.Text),
    sa.column("ts", UtcTime),
    sa.column("cpu_percent", sa.Float),
    sa.column("mem_percent", sa.Float),
    sa.column("disk_percent", sa.Float),
    sa.column("net_bytes_sent", sa.BigInteger),
    sa.column("net_bytes_recv", sa.BigInteger),
)


def upgrade() -> None:
    """Add the columns and tables, pack the samples, and drop their table."""
    op.add_column("agent_status", sa.Column("open_points", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("agent_status", sa.Column("points_due_at", sa.BigInteger))
    op.add_column("agent_status", sa.Column("agent_started_ms", sa.BigInteger))
    chunks = op.create_table(
        "metric_chunks",
        *_key(),
        sa.Column("points", sa.LargeBinary, nullable=False),
        sa.Column("org_id", sa.Text),
        sqlite_with_rowid=False,
    )
    rollups = op.create_table(
        "metric_rollups",
        *_key(),
        sa.Column("count", sa.Integer, nullable=False),
        *[column for name in _SHARES for column in _spread_columns(name)],
        *[
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("covered_ms", "sent_bytes", "recv_bytes", "sent_peak", "recv_peak")
        ],
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("org_id", sa.Text),
        sqlite_with_rowid=False,
    )
    _pack_samples(chunks, rollups)
    op.drop_table("metric_samples")


def _key() -> list[sa.Column[object]]:
    return [
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("resolution_s", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
    ]


def _spread_columns(name: str) -> list[sa.Column[object]]:
    return [
        sa.Column(f"{name}_count", sa.Integer, nullable=False),
        sa.Column(f"{name}_sum", sa.BigInteger, nullable=False),
        sa.Column(f"{name}_min", sa.Integer),
        sa.Column(f"{name}_max", sa.Integer),
    ]


def _pack_samples(chunks: sa.Table, rollups: sa.Table) -> None:
    for agent_id in list(_agent_ids()):
        windows = _windows_of(agent_id)
        _insert(
            chunks,
            [
                {"agent_id": agent_id, "resolution_s": resolution_s, "start_s": window.start_s, "points": points}
                for window in windows
                for resolution_s, points in ((RAW_S, window.raw), (MINUTE_S, window.minutes))
            ],
        )
        _insert(
            rollups,
            [
                _rollup_row(agent_id, resolution_s, rollup)
                for resolution_s in (QUARTER_S, TWO_HOURS_S)
                for rollup in regrouped([quarter for window in windows for quarter in window.quarters], resolution_s)
            ],
        )


def _insert(table: sa.Table, rows: list[dict[str, object]]) -> None:
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        op.get_bind().execute(sa.insert(table), rows[first : first + _ROWS_AT_ONCE])


def _agent_ids() -> Iterator[str]:
    """Each PC with samples, by one step in the index after another rather than through all rows."""
    query = sa.select(sa.func.min(_samples.c.agent_id))
    agent_id = op.get_bind().execute(query).scalar_one()
    while agent_id is not None:
        yield agent_id
        agent_id = op.get_bind().execute(query.where(_samples.c.agent_id > agent_id)).scalar_one()


def _windows_of(agent_id: str) -> tuple[ClosedWindow, ...]:
    """One PC's day, a few thousand points; the last window is closed early, and what comes later is joined to it."""
    query = sa.select(*_samples.c).where(_samples.c.agent_id == agent_id).order_by(_samples.c.ts)
    texts = [point_text(Sample(*row), is_restart=False) for row in op.get_bind().execute(query)]
    return windows_of(agent_id, read_points("".join(texts)))


def _rollup_row(agent_id: str, resolution_s: int, rollup: Rollup) -> dict[str, object]:
    traffic = rollup.traffic
    row: dict[str, object] = {
        "agent_id": agent_id,
        "resolution_s": resolution_s,
        "start_s": rollup.at_ms // 1000,
        "count": rollup.count,
        "covered_ms": traffic.covered_ms,
        "sent_bytes": traffic.sent_bytes,
        "recv_bytes": traffic.recv_bytes,
        "sent_peak": traffic.sent_peak,
        "recv_peak": traffic.recv_peak,
        "restarts": rollup.restarts,
    }
    for name, spread in zip(_SHARES, (rollup.cpu, rollup.mem, rollup.disk), strict=True):
        row |= _spread_row(name, spread)
    return row


def _spread_row(name: str, spread: Spread) -> dict[str, object]:
    is_known = spread.count > 0
    return {
        f"{name}_count": spread.count,
        f"{name}_sum": spread.total,
        f"{name}_min": spread.lowest if is_known else None,
        f"{name}_max": spread.highest if is_known else None,
    }
