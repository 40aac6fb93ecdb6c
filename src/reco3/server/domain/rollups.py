"""Roll-ups: what many points have in common, exactly mergeable.

Means are kept as sums and counts, and gaps stay visible as counts below what was expected; nothing is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reco3.server.domain.columns import DamagedColumn, pack_columns, unpack_columns
from reco3.server.domain.points import LONGEST_STEP_MS, MISSING, Points, segment, segments

_MINUTES = 2
_MINUTE_COLUMNS = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """How a share was spread over `count` points: sum, lowest and highest in hundredths of a percent."""

    count: int = 0
    total: int = 0
    lowest: int = 0
    highest: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that travelled in the `covered_ms` for which both totals are known, and the highest rates per second."""

    covered_ms: int = 0
    sent_bytes: int = 0
    recv_bytes: int = 0
    sent_peak: int = 0
    recv_peak: int = 0


@dataclass(frozen=True, slots=True)
class Rollup:
    """The points from `at_ms` on, for as long as the resolution says; `restarts` of the agent or of the PC."""

    at_ms: int
    count: int = 0
    cpu: Spread = Spread()
    mem: Spread = Spread()
    disk: Spread = Spread()
    traffic: Traffic = Traffic()
    restarts: int = 0


def rollup_of(points: Points, first: int, end: int, *, at_ms: int) -> Rollup:
    """The roll-up of the rows from `first` up to `end`; the row before them tells of growth and restarts."""
    traffic, restarts = _traffic(points, first, end)
    return Rollup(
        at_ms=at_ms,
        count=end - first,
        cpu=_spread(points.cpu[first:end]),
        mem=_spread(points.mem[first:end]),
        disk=_spread(points.disk[first:end]),
        traffic=traffic,
        restarts=restarts,
    )


def merged(rollups: Sequence[Rollup], *, at_ms: int) -> Rollup:
    """The roll-up of everything that these roll-ups, at least one, tell of."""
    traffics = [rollup.traffic for rollup in rollups]
    return Rollup(
        at_ms=at_ms,
        count=sum([rollup.count for rollup in rollups]),
        cpu=_merged_spread([rollup.cpu for rollup in rollups]),
        mem=_merged_spread([rollup.mem for rollup in rollups]),
        disk=_merged_spread([rollup.disk for rollup in rollups]),
        traffic=Traffic(
            sum([traffic.covered_ms for traffic in traffics]),
            sum([traffic.sent_bytes for traffic in traffics]),
            sum([traffic.recv_bytes for traffic in traffics]),
            max([traffic.sent_peak for traffic in traffics]),
            max([traffic.recv_peak for traffic in traffics]),
        ),
        restarts=sum([rollup.restarts for rollup in rollups]),
    )


def pack_rollups(rollups: Sequence[Rollup]) -> bytes:
    """Roll-ups as one segment; packs may simply be joined."""
    rows = list(map(_row, rollups))
    return segment(_MINUTES, len(rows), pack_columns(list(zip(*rows, strict=True))))


def unpack_rollups(packed: bytes) -> list[Rollup]:
    """The roll-ups of a pack; the rest of a damaged one is left out."""
    rollups: list[Rollup] = []
    for count, body in segments(packed, kind=_MINUTES):
        try:
            columns = unpack_columns(body, columns=_MINUTE_COLUMNS, rows=count)
        except DamagedColumn:
            return rollups
        rollups.extend(_rollup(row) for row in zip(*columns, strict=True))
    return rollups


def _spread(values: Sequence[int]) -> Spread:
    if MISSING in values:
        values = [value for value in values if value != MISSING]
    return Spread(len(values), sum(values), min(values), max(values)) if values else Spread()


def _merged_spread(spreads: Sequence[Spread]) -> Spread:
    known = [spread for spread in spreads if spread.count]
    if not known:
        return Spread()
    return Spread(
        sum([spread.count for spread in known]),
        sum([spread.total for spread in known]),
        min([spread.lowest for spread in known]),
        max([spread.highest for spread in known]),
    )


def _traffic(points: Points, first: int, end: int) -> tuple[Traffic, int]:
    """What travelled, and how often the agent or the PC was started anew."""
    restarts = points.restarts[0] if first == 0 else 0
    start = max(first, 1)
    covered_ms = sent_bytes = recv_bytes = sent_peak = recv_peak = 0
    before = [column[start - 1 : max(start, end) - 1] for column in (points.at_ms, points.sent, points.recv)]
    here = [column[start:end] for column in (points.at_ms, points.sent, points.recv, points.restarts)]
    for old_ms, old_sent, old_recv, at_ms, sent, recv, restart in zip(*before, *here, strict=True):
        step_ms, sent_step, recv_step = at_ms - old_ms, sent - old_sent, recv - old_recv
        restarts += restart or MISSING < sent < old_sent or MISSING < recv < old_recv
        if sent_step < 0 or recv_step < 0 or MISSING in (old_sent, old_recv) or not 0 < step_ms <= LONGEST_STEP_MS:
            continue
        covered_ms += step_ms
        sent_bytes += sent_step
        recv_bytes += recv_step
        sent_peak = max(sent_peak, sent_step * 1000 // step_ms)
        recv_peak = max(recv_peak, recv_step * 1000 // step_ms)
    return Traffic(covered_ms, sent_bytes, recv_bytes, sent_peak, recv_peak), restarts


def _row(rollup: Rollup) -> tuple[int, ...]:
    traffic = rollup.traffic
    return (
        rollup.at_ms // 1000,
        rollup.count,
        rollup.restarts,
        *_spread_row(rollup.cpu, rollup.count),
        *_spread_row(rollup.mem, rollup.count),
        *_spread_row(rollup.disk, rollup.count),
        traffic.covered_ms,
        traffic.sent_bytes,
        traffic.recv_bytes,
        traffic.sent_peak,
        traffic.recv_peak,
    )


def _spread_row(spread: Spread, count: int) -> tuple[int, int, int, int]:
    """Missing points, sum above count times lowest, lowest, highest above lowest: all of them small numbers."""
    return (
        count - spread.count,
        spread.total - spread.count * spread.lowest,
        spread.lowest,
        spread.highest - spread.lowest,
    )


def _rollup(row: Sequence[int]) -> Rollup:
    at_s, count, restarts = row[:3]
    return Rollup(
        at_s * 1000,
        count,
        _spread_of(row[3:7], count),
        _spread_of(row[7:11], count),
        _spread_of(row[11:15], count),
        Traffic(*row[15:]),
        restarts,
    )


def _spread_of(row: Sequence[int], count: int) -> Spread:
    missing, excess, lowest, width = row
    known = count - missing
    return Spread(known, excess + known * lowest, lowest, lowest + width)
