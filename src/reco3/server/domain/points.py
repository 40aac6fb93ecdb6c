"""Points: one heartbeat's five numbers, as text in the PC's own row and packed by the window.

They keep whole numbers only, hundredths of a percent and bytes, and refuse to guess what is missing.

The text of a point is `.` and 40 characters of base64: milliseconds and two flags, three shares, two totals.
The dot lets a reader find the next point after a damaged one.
Many points are kept column by column: a PC's window closes every five minutes, and there may be 100,000 PCs.
"""

import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter

from reco3.protocol.limits import HEARTBEAT_PERIOD_S
from reco3.protocol.messages import Metrics
from reco3.server.domain.columns import DamagedColumn, pack_columns, unpack_columns
from reco3.server.domain.metrics import Sample

POINT_CHARS = 41
LONGEST_STEP_MS = 30_000  # A PC that was silent for longer counts as OFFLINE, and nobody knows its rates.
MISSING = -1

# Milliseconds since 1970, 1 where the agent was started anew, CPU, memory and disk in hundredths of a percent,
# bytes sent and received since boot; MISSING where nothing came.
Row = tuple[int, int, int, int, int, int, int]

_MARK = "."
_BODY_CHARS = 40
_BODY = struct.Struct(">Qhhhqq")
_RESTART, _CARRY, _FLAG_BITS = 1, 2, 2
_HUNDREDTHS = 100
_HIGHEST_SHARE = 2**15 - 1
_HIGHEST_PERCENT = _HIGHEST_SHARE / _HUNDREDTHS
_HIGHEST_TOTAL = 2**62
_BEAT_MS = HEARTBEAT_PERIOD_S * 1000
_five = attrgetter("cpu_percent", "mem_percent", "disk_percent", "net_bytes_sent", "net_bytes_recv")

_SEGMENT = struct.Struct("<BHH")
_POINTS = 1
_COLUMNS = 6
_MAX_SEGMENT_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Points:
    """Heartbeats in the order of their times, a tuple for each element of `Row`.

    The rows from `first` on count; one before it was counted in an earlier window and stays for the next rate only.
    """

    at_ms: tuple[int, ...] = ()
    restarts: tuple[int, ...] = ()
    cpu: tuple[int, ...] = ()
    mem: tuple[int, ...] = ()
    disk: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    recv: tuple[int, ...] = ()
    first: int = 0

    def rows(self) -> list[Row]:
        """The points that count, one by one."""
        return [self.row(place) for place in range(self.first, len(self.at_ms))]

    def row(self, place: int) -> Row:
        """The point at a place, whether it counts or not."""
        return (
            self.at_ms[place],
            self.restarts[place],
            self.cpu[place],
            self.mem[place],
            self.disk[place],
            self.sent[place],
            self.recv[place],
        )


def points_of(rows: Iterable[Row], *, carried: Row | None = None) -> Points:
    """Rows in the order of their times, with one before them that was counted earlier."""
    ordered = sorted(rows, key=itemgetter(0))
    if carried is not None:
        ordered.insert(0, carried)
    if not ordered:
        return Points()
    at_ms, restarts, cpu, mem, disk, sent, recv = zip(*ordered, strict=True)
    return Points(at_ms, restarts, cpu, mem, disk, sent, recv, first=0 if carried is None else 1)


def point_text(sample: Sample, *, is_restart: bool) -> str:
    """A sample as the characters that a heartbeat appends to its PC's open points."""
    return numbers_text(sample, sample.ts, is_restart=is_restart)


def numbers_text(numbers: Sample | Metrics, at: datetime, *, is_restart: bool) -> str:
    """The five numbers that are kept, and their time, as the characters of a point.

    This runs thousands of times a second, so it calls nothing for each of them.
    """
    cpu, mem, disk, sent, recv = _five(numbers)
    body = _BODY.pack(
        _unix_ms(at) << _FLAG_BITS | (_RESTART if is_restart else 0),
        MISSING if cpu is None else _HIGHEST_SHARE if cpu > _HIGHEST_PERCENT else round(cpu * _HUNDREDTHS),
        MISSING if mem is None else _HIGHEST_SHARE if mem > _HIGHEST_PERCENT else round(mem * _HUNDREDTHS),
        MISSING if disk is None else _HIGHEST_SHARE if disk > _HIGHEST_PERCENT else round(disk * _HUNDREDTHS),
        MISSING if sent is None or sent > _HIGHEST_TOTAL else sent,
        MISSING if recv is None or recv > _HIGHEST_TOTAL else recv,
    )
    return _MARK + b2a_base64(body, newline=False).decode("ascii")


def restart_text(point: str) -> str:
    """The same point, marked as the first after the agent was started anew."""
    stamp, *numbers = _BODY.unpack(a2b_base64(point[1:]))
    return _MARK + b2a_base64(_BODY.pack(stamp | _RESTART, *numbers), newline=False).decode("ascii")


def text_of(rows: Iterable[Row], *, carried: Row | None = None) -> str:
    """Rows as the text that `read_points` reads."""
    # Whether it was a restart was counted where it belongs.
    head = "" if carried is None else _text((carried[0], 0, *carried[2:]), _CARRY)
    return head + "".join([_text(row, 0) for row in rows])


def read_points(text: str) -> Points:
    """The points of a text; what is damaged is left out."""
    rows = sorted(_BODY.iter_unpack(_packed_bodies(text)), key=_at_ms)
    carried: Row | None = None
    counted: list[Row] = []
    for stamp, cpu, mem, disk, sent, recv in rows:
        row = (stamp >> _FLAG_BITS, stamp & _RESTART, cpu, mem, disk, sent, recv)
        if stamp & _CARRY:
            carried = row if not counted else carried
        else:
            counted.append(row)
    return points_of(counted, carried=carried)


def sample_of_row(agent_id: str, row: Row) -> Sample:
    """The point in the units that operators read."""
    at_ms, _, cpu, mem, disk, sent, recv = row
    return Sample(
        agent_id=agent_id,
        ts=datetime.fromtimestamp(at_ms / 1000, UTC),
        cpu_percent=_percent(cpu),
        mem_percent=_percent(mem),
        disk_percent=_percent(disk),
        net_bytes_sent=None if sent == MISSING else sent,
        net_bytes_recv=None if recv == MISSING else recv,
    )


def pack_points(points: Points, first: int, end: int) -> bytes:
    """These rows as segments, each of which says its own length, so that packs may simply be joined."""
    starts = range(first, end, _MAX_SEGMENT_ROWS)
    return b"".join([_segment(points, start, min(end, start + _MAX_SEGMENT_ROWS)) for start in starts])


def unpack_points(packed: bytes) -> list[Row]:
    """The rows of a pack; the rest of a damaged one is left out."""
    rows: list[Row] = []
    for count, body in segments(packed, kind=_POINTS):
        try:
            times, *others = unpack_columns(body, columns=_COLUMNS, rows=count)
        except DamagedColumn:
            return rows
        at_ms = [(time >> 1) + beat * _BEAT_MS for beat, time in enumerate(times)]
        restarts = [time & 1 for time in times]
        cpu, mem, disk, sent, recv = others
        rows += zip(at_ms, restarts, cpu, mem, disk, sent, recv, strict=True)
    return rows


def segment(kind: int, rows: int, body: bytes) -> bytes:
    """A body behind its kind, its number of rows and its length."""
    return _SEGMENT.pack(kind, rows, len(body)) + body


def segments(packed: bytes, *, kind: int) -> Iterator[tuple[int, bytes]]:
    """The rows and body of each segment, as far as they are whole and of the kind that is asked for."""
    offset = 0
    while offset + _SEGMENT.size <= len(packed):
        found, rows, size = _SEGMENT.unpack_from(packed, offset)
        offset += _SEGMENT.size
        if found != kind or rows == 0 or offset + size > len(packed):
            return
        yield rows, packed[offset : offset + size]
        offset += size


def _segment(points: Points, first: int, end: int) -> bytes:
    # Only what a time is off the ten-second beat is kept, with the flag in its lowest bit.
    restarts = points.restarts[first:end]
    at_ms = points.at_ms[first:end]
    times = [moment - beat * _BEAT_MS << 1 | restarts[beat] for beat, moment in enumerate(at_ms)]
    columns: list[Sequence[int]] = [times]
    columns += [column[first:end] for column in (points.cpu, points.mem, points.disk, points.sent, points.recv)]
    return segment(_POINTS, end - first, pack_columns(columns))


def _text(row: Row, flags: int) -> str:
    at_ms, restart, cpu, mem, disk, sent, recv = row
    body = _BODY.pack(at_ms << _FLAG_BITS | restart | flags, cpu, mem, disk, sent, recv)
    return _MARK + b2a_base64(body, newline=False).decode("ascii")


def _packed_bodies(text: str) -> bytes:
    """All bodies that are whole: at once when none is damaged, else one by one."""
    bodies = [body for body in text.split(_MARK) if len(body) == _BODY_CHARS]
    try:
        packed = a2b_base64("".join(bodies), strict_mode=True)
    except ValueError:
        packed = b""
    if len(packed) == len(bodies) * _BODY.size:
        return packed
    return b"".join([_packed_body(body) for body in bodies])


def _packed_body(body: str) -> bytes:
    try:
        packed = a2b_base64(body, strict_mode=True)
    except ValueError:
        return b""
    return packed if len(packed) == _BODY.size else b""


def _at_ms(body: tuple[int, ...]) -> int:
    return body[0] >> _FLAG_BITS


@lru_cache(maxsize=64)  # A whole batch of heartbeats came in few milliseconds.
def _unix_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _percent(share: int) -> float | None:
    return None if share == MISSING else share / _HUNDREDTHS
