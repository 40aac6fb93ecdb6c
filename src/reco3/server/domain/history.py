"""History: windows that close, and which resolution answers a question.

A window is five minutes that begin at a whole minute; which one of five is the PC's own. Its points wait as
text; when it closes they become packs and roll-ups. Nothing here reads a clock or a database.
"""

import math
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reco3.protocol.limits import HEARTBEAT_PERIOD_S
from reco3.server.domain.points import Points, Row, pack_points, points_of, read_points, text_of
from reco3.server.domain.rollups import Rollup, merged, pack_rollups, rollup_of

WINDOW_S = 300
RAW_S, MINUTE_S, QUARTER_S, TWO_HOURS_S = 10, 60, 900, 7_200
CHUNK_RESOLUTIONS_S = (RAW_S, MINUTE_S)
ROLLUP_RESOLUTIONS_S = (QUARTER_S, TWO_HOURS_S)

# A PC that reports a hundred times too often must not make its own row grow without end.
MAX_OPEN_CHARS = 25_000

_OLDEST_POINT = timedelta(days=400)
_NEWEST_POINT = timedelta(days=1)
_DAY_S = 86_400
_STEPS_S = (10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, _DAY_S)


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """Five minutes of one PC that are over: both packs, and a roll-up for each quarter of an hour that they touch.

    `start_s` is in Unix seconds.
    """

    agent_id: str
    start_s: int
    raw: bytes
    minutes: bytes
    quarters: tuple[Rollup, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing leaves: the finished windows, what stays open, and when to look again in Unix seconds."""

    windows: tuple[ClosedWindow, ...]
    open_points: str
    due_at: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how long each resolution is kept."""

    raw: timedelta = timedelta(hours=24)
    minutes: timedelta = timedelta(days=7)
    quarters: timedelta = timedelta(days=30)
    two_hours: timedelta = timedelta(days=365)

    def by_resolution(self) -> dict[int, timedelta]:
        """The resolution in seconds, finest first, and how long it is kept."""
        return {RAW_S: self.raw, MINUTE_S: self.minutes, QUARTER_S: self.quarters, TWO_HOURS_S: self.two_hours}


@dataclass(frozen=True, slots=True)
class Plan:
    """How to answer a question: which stored resolution to read, and how many seconds each answered point spans."""

    base_s: int
    step_s: int
    start_s: int
    end_s: int


def row_length_s(resolution_s: int) -> int:
    """How many seconds one stored row of a resolution spans."""
    return WINDOW_S if resolution_s in CHUNK_RESOLUTIONS_S else resolution_s


def points_due_at(agent_id: str, at: datetime) -> int:
    """When the window of a moment should be closed, in Unix seconds: within a minute after its end.

    Windows begin at different minutes and the seconds are spread by the PC's name, so a fleet does not close at once,
    and no PC has more than six minutes open.
    """
    return _window_start_s(agent_id, int(at.timestamp())) + WINDOW_S + _spread_of(agent_id) % MINUTE_S


def close_windows(agent_id: str, open_points: str, now: datetime) -> Closed:
    """Split off every window but the one that `now` lies in; its last point stays behind for the next rate."""
    points = plausible(read_points(open_points), now)
    current_ms = _window_start_s(agent_id, int(now.timestamp())) * 1000
    kept: list[Row] = []
    windows: list[ClosedWindow] = []
    for first, end in _windows(agent_id, points):
        if current_ms <= points.at_ms[first] < current_ms + WINDOW_S * 1000:
            kept = [points.row(place) for place in range(first, end)]
        else:
            windows.append(_closed(agent_id, points, first, end))
    return Closed(
        windows=tuple(windows),
        open_points=text_of(kept, carried=last_before(points, current_ms)),
        due_at=points_due_at(agent_id, now),
    )


def windows_of(agent_id: str, points: Points) -> tuple[ClosedWindow, ...]:
    """What is stored of some points, window by window."""
    return tuple(_closed(agent_id, points, first, end) for first, end in _windows(agent_id, points))


def plausible(points: Points, now: datetime) -> Points:
    """The points that no damaged text invented: not from another age."""
    oldest_ms = (now - _OLDEST_POINT).timestamp() * 1000
    newest_ms = (now + _NEWEST_POINT).timestamp() * 1000
    if not points.at_ms or (oldest_ms <= points.at_ms[0] and points.at_ms[-1] <= newest_ms):
        return points
    rows = [row for row in points.rows() if oldest_ms <= row[0] <= newest_ms]
    return points_of(rows)


def last_before(points: Points, at_ms: int) -> Row | None:
    """The last point before a moment, or the one that was carried already."""
    place = bisect_left(points.at_ms, at_ms)
    return points.row(place - 1) if place else None


def bucketed(points: Points, step_s: int) -> list[Rollup]:
    """One roll-up for each stretch of `step_s` seconds that has points, oldest first."""
    return _bucketed(points, points.first, len(points.at_ms), step_s)


def regrouped(rollups: Iterable[Rollup], step_s: int) -> list[Rollup]:
    """Roll-ups merged into stretches of `step_s` seconds, oldest first."""
    buckets: dict[int, list[Rollup]] = {}
    step_ms = step_s * 1000
    for rollup in rollups:
        buckets.setdefault(rollup.at_ms // step_ms * step_ms, []).append(rollup)
    return [merged(bucket, at_ms=at_ms) for at_ms, bucket in sorted(buckets.items())]


def plan_of(start: datetime, end: datetime, *, max_points: int, now: datetime, keeping: Keeping) -> Plan:
    """The finest answer of at most `max_points` that is still kept from the start on.

    Of the stored resolutions that can give it, the coarsest is read.
    """
    start_s, end_s = int(start.timestamp()), math.ceil(end.timestamp())
    kept = [
        base_s
        for base_s, duration in keeping.by_resolution().items()
        if start_s >= (now - duration).timestamp() - base_s
    ] or [TWO_HOURS_S]
    for step_s in (*_STEPS_S, _fitting_days_s(end_s - start_s, max_points)):
        bases_s = [base_s for base_s in kept if step_s % base_s == 0]
        first_s = start_s - start_s % step_s
        if bases_s and -(-(end_s - first_s) // step_s) <= max_points:
            return Plan(max(bases_s), step_s, first_s, end_s)
    raise AssertionError("a step of many days always fits")


def expected_count(at_ms: int, step_s: int, now: datetime) -> int:
    """How many heartbeats a stretch should have seen up to now."""
    elapsed_s = min(step_s, int(now.timestamp()) - at_ms // 1000)
    return max(0, elapsed_s // HEARTBEAT_PERIOD_S)


def _fitting_days_s(range_s: int, max_points: int) -> int:
    # One point less, for the part of a step before the start.
    days = -(-range_s // (max(1, max_points - 1) * _DAY_S))
    return max(1, days) * _DAY_S


def _closed(agent_id: str, points: Points, first: int, end: int) -> ClosedWindow:
    minutes = _bucketed(points, first, end, MINUTE_S)
    return ClosedWindow(
        agent_id=agent_id,
        start_s=_window_start_s(agent_id, points.at_ms[first] // 1000),
        raw=pack_points(points, first, end),
        minutes=pack_rollups(minutes),
        quarters=tuple(regrouped(minutes, QUARTER_S)),
    )


def _windows(agent_id: str, points: Points) -> Iterator[tuple[int, int]]:
    return _stretches(points, points.first, len(points.at_ms), WINDOW_S, offset_s=_offset_s(agent_id))


def _window_start_s(agent_id: str, moment_s: int) -> int:
    """The start of the PC's window that a moment lies in."""
    return moment_s - (moment_s - _offset_s(agent_id)) % WINDOW_S


def _offset_s(agent_id: str) -> int:
    """How long after each fifth minute of the wall clock a PC's windows begin: whole minutes, which are never split."""
    return _spread_of(agent_id) // MINUTE_S % (WINDOW_S // MINUTE_S) * MINUTE_S


def _spread_of(agent_id: str) -> int:
    return zlib.crc32(agent_id.encode())


def _bucketed(points: Points, first: int, end: int, step_s: int) -> list[Rollup]:
    step_ms = step_s * 1000
    return [
        rollup_of(points, start, stop, at_ms=points.at_ms[start] // step_ms * step_ms)
        for start, stop in _stretches(points, first, end, step_s)
    ]


def _stretches(points: Points, first: int, end: int, step_s: int, *, offset_s: int = 0) -> Iterator[tuple[int, int]]:
    """First row and end of each stretch of `step_s` seconds; the times are in order, so a search finds the borders."""
    step_ms, offset_ms = step_s * 1000, offset_s * 1000
    while first < end:
        at_ms = points.at_ms[first]
        border_ms = at_ms + step_ms - (at_ms - offset_ms) % step_ms
        stop = bisect_left(points.at_ms, border_ms, first, end)
        yield first, stop
        first = stop
