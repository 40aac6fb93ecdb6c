"""What must reach the server and has not yet: log entries and file offsets in one SQLite file that survives kill -9.

An entry and the offset it was read up to are committed together, so a line is spooled exactly once.
It refuses to drop or reorder what may have been sent: an entry's number is its rank, and dropped lines leave no hole.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from reco3.protocol.commands import Severity
from reco3.protocol.limits import MAX_LOG_ENTRIES_PER_BATCH
from reco3.protocol.messages import LogEntry

STREAM = "logs"
DROPPED_CODE = "LOG_DROPPED"
GAP_CODE = "LOG_GAP"
QUARANTINED_CODE = "LOG_QUARANTINED"
# The server takes bodies of four times that; a proxy in front of it may not.
MAX_BATCH_BYTES = 1024 * 1024

_SCHEMA_VERSION = 2
_ROW_OVERHEAD_BYTES = 64
# The last fifth of the space is for ERROR and CRITICAL alone.
_WARN_SHARE = 0.8
_MAX_QUARANTINED = 100
_PLACE = ("file", "line_offset")
_LEVELS = (Severity.INFO, Severity.WARN, Severity.ERROR, Severity.CRITICAL)
_SEVERITIES: Mapping[str | None, int] = {level: number for number, level in enumerate(_LEVELS)}
_WARN = _SEVERITIES[Severity.WARN]
_SCHEMA = """
CREATE TABLE numbering (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, total_bytes INTEGER NOT NULL
);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, severity INTEGER NOT NULL, is_dropped_marker INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX entries_by_worth ON entries (severity, id) WHERE NOT is_dropped_marker;
CREATE TABLE IF NOT EXISTS offsets (path TEXT PRIMARY KEY, offset_json TEXT NOT NULL);
CREATE TABLE quarantine (id INTEGER PRIMARY KEY, reason TEXT NOT NULL, body BLOB NOT NULL);
"""
_INSERT_ENTRY = "INSERT INTO entries (id, severity, is_dropped_marker, size_bytes, body) VALUES (?, ?, ?, ?, ?)"
_SIZE_COLUMN = 3
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class FileOffset:
    """Which file was read, and how far.

    The file is known by device, inode and birth mark (0 where the filesystem gives none), by the hash of its first
    `head_bytes` bytes, which may reach beyond `offset`, and by the hash of the last bytes before `offset` (at most 64):
    an inode alone is reused by the next file, and so are headers.
    `is_inside_long_line` says that the rest of the line at `offset` is to be skipped.
    `older` are the rotated predecessors that are still watched for late lines, oldest first.
    An offset of inode 0 says that the path was known and no file was there.
    """

    device: int = 0
    inode: int = 0
    head_bytes: int = 0
    head_sha256: str = ""
    offset: int = 0
    tail_sha256: str = ""
    is_inside_long_line: bool = False
    older: tuple["FileOffset", ...] = ()
    birth: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded entries under their final numbers: the n-th has sequence number `first_seq + n`."""

    stream: str
    epoch: str
    first_seq: int
    bodies: tuple[bytes, ...]

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """What was encoded."""
        return tuple(_parse_entry(body) for body in self.bodies)

    def to_json(self) -> bytes:
        """The message as it goes to the server; the entries are encoded already."""
        numbering = _encode({"stream": self.stream, "epoch": self.epoch, "first_seq": self.first_seq})
        return b'{"logs":[' + b",".join(self.bodies) + b"]," + numbering[1:].encode()


class SpoolTooNewError(Exception):
    """The spool was written by a newer version of the agent."""


class Spool:
    """A bounded queue of log entries on disk, used from one thread.

    `max_bytes` bounds the entries; the file is somewhat larger.
    The oldest entry has number `next_seq`, the one after it the next number, and so on.
    What is given out is therefore never dropped, nor is what a killed predecessor may have given out: the first batch.
    A file that is no readable spool is set aside, never deleted, and the new spool starts with an entry that says so.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, make_epoch: Callable[[], str] = lambda: os.urandom(8).hex()
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._make_epoch = make_epoch
        self._given_count = 0
        self._given_through_id = 0
        self._connection = self._open_or_set_aside()
        self._rows_of_one_batch(MAX_LOG_ENTRIES_PER_BATCH)

    def append(self, lines: Sequence[LogEntry], offsets: Mapping[str, FileOffset]) -> None:
        """Keep `lines` and the offsets they were read up to, in one transaction, durable on return.

        Paths that `offsets` does not name keep theirs.
        """
        rows = [_row_of(entry) for entry in lines]
        with self._transaction():
            self._connection.executemany(_INSERT_ENTRY, rows)
            self._grow(sum(row[_SIZE_COLUMN] for row in rows))
            self._connection.executemany(
                "INSERT INTO offsets VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET offset_json = excluded.offset_json",
                [(path, json.dumps(asdict(offset))) for path, offset in offsets.items()],
            )
            self._drop_excess()

    def offsets(self) -> Mapping[str, FileOffset]:
        """How far each file was read, by path."""
        rows = self._connection.execute("SELECT path, offset_json FROM offsets").fetchall()
        return {path: _parse_offset(json.loads(text)) for path, text in rows}

    def next_batch(self, limit: int) -> Batch | None:
        """Give the oldest entries under their final numbers, or None when there is nothing to send.

        What was not acknowledged comes again under the same numbers, with what is new behind it.
        """
        bodies = self._rows_of_one_batch(min(limit, MAX_LOG_ENTRIES_PER_BATCH))
        if not bodies:
            return None
        return Batch(STREAM, self._numbering("epoch"), self._numbering("next_seq"), bodies)

    def ack(self, seq: int) -> None:
        """Forget everything up to `seq`: the server holds it.

        A number that this spool never gave out means that the spool was restored from an older copy.
        The server would take new lines for old ones, so the numbering starts again under a new epoch.
        """
        count = seq - int(self._numbering("next_seq")) + 1
        if count <= 0:
            return
        if count > self._given_count:
            with self._transaction():
                self._start_epoch()
            return
        # Not worth waiting for the disk: an acknowledgement lost to a power cut is asked for again.
        with self._not_waiting_for_the_disk(), self._transaction():
            self._forget_oldest(count)
        self._given_count -= count

    def quarantine_oldest(self, reason: str) -> LogEntry | None:
        """Set the oldest entry aside, which the server will never take; a marker goes under its number instead.

        Returns the entry, or None when it was such a marker itself and is given up.
        """
        entry_id, body = self._connection.execute("SELECT id, body FROM entries ORDER BY id LIMIT 1").fetchone()
        entry = _parse_entry(body)
        with self._transaction():
            if entry.code == QUARANTINED_CODE:
                self._forget_oldest(1)
            else:
                self._replace_by_marker(entry_id, entry, body, reason)
        if entry.code != QUARANTINED_CODE:
            return entry
        self._given_count -= 1
        return None

    def pending_count(self) -> int:
        """How many entries the server has not acknowledged; it looks at every one of them."""
        (count,) = self._connection.execute("SELECT count(*) FROM entries").fetchone()
        return int(count)

    def has_more_than(self, count: int) -> bool:
        """Whether more entries than that wait for the server."""
        return self._connection.execute("SELECT 1 FROM entries LIMIT 1 OFFSET ?", (count,)).fetchone() is not None

    def close(self) -> None:
        """Close the file; nothing is pending in memory."""
        self._connection.close()

    def _open_or_set_aside(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise  # Locked, full or not permitted: the file may well be a good one.
        except sqlite3.DatabaseError:
            _set_aside(self._path)
        self._connection = self._open()
        reason = "the spool was unreadable and was set aside; lines in it were not sent"
        self.append(
            [LogEntry(msg=reason, level=Severity.ERROR, code=GAP_CODE, meta={"reason": "spool_unreadable"})], {}
        )
        return self._connection

    def _open(self) -> sqlite3.Connection:
        # Log lines are nobody else's business.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 1048576")
            connection.execute("PRAGMA cache_size = -512")
            self._prepare_schema(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_schema(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise SpoolTooNewError(
                f"{self._path}: expected a spool of version {_SCHEMA_VERSION} or older, found {version}; "
                "start the newer agent, or move the file away and lose what is in it"
            )
        if version == _SCHEMA_VERSION:
            connection.execute("SELECT epoch, next_seq, total_bytes FROM numbering").fetchone()
            return
        if version == 1:
            _upgrade_from_1(connection)
            return
        first_row = f"INSERT INTO numbering VALUES (1, '{self._make_epoch()}', 1, 0);"  # noqa: S608 - our own random hex
        connection.executescript(f"BEGIN; {_SCHEMA} {first_row} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _not_waiting_for_the_disk(self) -> Iterator[None]:
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = FULL")

    def _rows_of_one_batch(self, limit: int) -> tuple[bytes, ...]:
        """Read the oldest entries up to the limits of a batch; they count as given out from now on."""
        bodies: list[bytes] = []
        total_bytes = last_id = 0
        for entry_id, body in self._connection.execute("SELECT id, body FROM entries ORDER BY id LIMIT ?", (limit,)):
            total_bytes += len(body) + 1
            if bodies and total_bytes > MAX_BATCH_BYTES:
                break
            bodies.append(body)
            last_id = entry_id
        self._given_count = max(self._given_count, len(bodies))
        self._given_through_id = max(self._given_through_id, last_id)
        return tuple(bodies)

    def _forget_oldest(self, count: int) -> None:
        last_id, size = self._connection.execute(
            "SELECT max(id), sum(size_bytes) FROM (SELECT id, size_bytes FROM entries ORDER BY id LIMIT ?)", (count,)
        ).fetchone()
        self._connection.execute("DELETE FROM entries WHERE id <= ?", (last_id,))
        self._connection.execute("UPDATE numbering SET next_seq = next_seq + ?", (count,))
        self._grow(-size)

    def _replace_by_marker(self, entry_id: int, entry: LogEntry, body: bytes, reason: str) -> None:
        self._connection.execute("INSERT INTO quarantine (reason, body) VALUES (?, ?)", (reason, body))
        self._connection.execute(
            "DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (_MAX_QUARANTINED,)
        )
        marker = LogEntry(
            msg=f"one log line is kept on this PC, because the server does not take it: {reason}",
            ts=entry.ts,
            level=entry.level,
            code=QUARANTINED_CODE,
            meta={"reason": reason, **{key: value for key, value in (entry.meta or {}).items() if key in _PLACE}},
        )
        self._put(_row_of(marker, entry_id=entry_id))

    def _put(self, row: tuple[Any, ...]) -> None:
        self._connection.execute(
            "UPDATE numbering SET total_bytes = total_bytes + ? -"
            " coalesce((SELECT size_bytes FROM entries WHERE id = ?), 0)",
            (row[_SIZE_COLUMN], row[0]),
        )
        self._connection.execute(_INSERT_ENTRY.replace("INSERT", "INSERT OR REPLACE", 1), row)

    def _drop_excess(self) -> None:
        """Drop WARN lines beyond their share of the space, and whatever is least worth beyond all of it."""
        total_bytes = int(self._numbering("total_bytes"))
        warn_limit = int(self._max_bytes * _WARN_SHARE)
        if total_bytes <= warn_limit:
            return
        dropped = [self._drop_oldest(severity, warn_limit) for severity in range(_WARN + 1)]
        dropped += [self._drop_oldest(severity, self._max_bytes) for severity in range(_WARN + 1, len(_LEVELS))]
        found = [one for one in dropped if one is not None]
        if found:
            self._mark_dropped(found)

    def _drop_oldest(self, severity: int, limit_bytes: int) -> "_Dropped | None":
        excess_bytes = int(self._numbering("total_bytes")) - limit_bytes
        condition = "severity = ? AND id > ? AND NOT is_dropped_marker"
        ids: list[int] = []
        size = 0
        for entry_id, size_bytes in self._connection.execute(
            f"SELECT id, size_bytes FROM entries WHERE {condition} ORDER BY id",  # noqa: S608 - our own text
            (severity, self._given_through_id),
        ):
            if size >= excess_bytes:
                break
            ids.append(entry_id)
            size += size_bytes
        if not ids:
            return None
        dropped = _Dropped(severity, len(ids), ids[0], self._ts_of(ids[0]), self._ts_of(ids[-1]))
        self._connection.execute(
            f"DELETE FROM entries WHERE {condition} AND id <= ?",  # noqa: S608 - our own text
            (severity, self._given_through_id, ids[-1]),
        )
        self._grow(-size)
        return dropped

    def _ts_of(self, entry_id: int) -> str:
        (body,) = self._connection.execute("SELECT body FROM entries WHERE id = ?", (entry_id,)).fetchone()
        return _parse_entry(body).ts or ""

    def _mark_dropped(self, dropped: Sequence["_Dropped"]) -> None:
        marker_id, meta = self._dropped_marker()
        levels: dict[str, int] = dict(meta.get("levels", {}))
        for one in dropped:
            level = _LEVELS[one.severity]
            levels[level] = levels.get(level, 0) + one.count
        count = sum(levels.values())
        times = [ts for one in dropped for ts in (one.first_ts, one.last_ts)]
        times += [meta[key] for key in ("first_ts", "last_ts") if key in meta]
        marker = LogEntry(
            msg=f"{count} log lines were dropped on this PC: the spool reached its limit of {self._max_bytes} bytes",
            ts=max(times),
            level=max(levels, key=lambda level: _SEVERITIES[level]),
            code=DROPPED_CODE,
            meta={"dropped": count, "levels": levels, "first_ts": min(times), "last_ts": max(times)},
        )
        place = marker_id if marker_id is not None else min(one.first_id for one in dropped)
        self._put(_row_of(marker, entry_id=place, is_dropped_marker=True))

    def _dropped_marker(self) -> tuple[int | None, Mapping[str, Any]]:
        """Find the marker that still counts: one that was given out says what it says."""
        row = self._connection.execute(
            "SELECT id, body FROM entries WHERE is_dropped_marker AND id > ? ORDER BY id LIMIT 1",
            (self._given_through_id,),
        ).fetchone()
        return (None, {}) if row is None else (row[0], _parse_entry(row[1]).meta or {})

    def _start_epoch(self) -> None:
        self._connection.execute("UPDATE numbering SET epoch = ?, next_seq = 1", (self._make_epoch(),))

    def _numbering(self, column: str) -> Any:
        return self._connection.execute(f"SELECT {column} FROM numbering").fetchone()[0]  # noqa: S608 - our own column names

    def _grow(self, size_bytes: int) -> None:
        self._connection.execute("UPDATE numbering SET total_bytes = total_bytes + ?", (size_bytes,))


@dataclass(frozen=True, slots=True)
class _Dropped:
    severity: int
    count: int
    first_id: int
    first_ts: str
    last_ts: str


def _row_of(entry: LogEntry, *, entry_id: int | None = None, is_dropped_marker: bool = False) -> tuple[Any, ...]:
    parts = [f'{{"msg":{encode_basestring(entry.msg)}']
    for name, text in (("ts", entry.ts), ("level", entry.level), ("code", entry.code)):
        if text is not None:
            parts.append(f'"{name}":{encode_basestring(text)}')
    if entry.meta is not None:
        parts.append(f'"meta":{_meta_json(entry.meta)}')
    # Half a surrogate pair, which UTF-8 cannot carry, becomes a question mark.
    body = (",".join(parts) + "}").encode("utf-8", "replace")
    return (entry_id, _SEVERITIES.get(entry.level, 0), is_dropped_marker, len(body) + _ROW_OVERHEAD_BYTES, body)


def _meta_json(meta: Mapping[str, Any]) -> str:
    """What the encoder makes of it; for the texts and numbers of most lines at a third of the cost."""
    parts: list[str] = []
    for name, value in meta.items():
        if type(value) is str:
            parts.append(f"{encode_basestring(name)}:{encode_basestring(value)}")
        elif type(value) is int:
            parts.append(f"{encode_basestring(name)}:{value}")
        else:
            return _encode(meta)
    return "{" + ",".join(parts) + "}"


def _parse_offset(stored: dict[str, Any]) -> FileOffset:
    """Read an offset; fields that a newer agent added are left out."""
    names = {field.name for field in fields(FileOffset)}
    known = {name: value for name, value in stored.items() if name in names}
    return FileOffset(**{**known, "older": tuple(_parse_offset(one) for one in stored.get("older", ()))})


def _parse_entry(body: bytes) -> LogEntry:
    return LogEntry(**json.loads(body))


def _upgrade_from_1(connection: sqlite3.Connection) -> None:
    """Carry over a spool whose entries had columns and a number of their own."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = connection.execute(
            "SELECT id, is_dropped_marker, ts, level, code, msg, meta_json FROM entries ORDER BY id"
        )
        new_rows = [_row_of_version_1(row) for row in rows]
        epoch, next_seq = connection.execute(
            "SELECT epoch, coalesce((SELECT min(seq) FROM entries), next_seq) FROM numbering"
        ).fetchone()
        for statement in ("DROP TABLE entries; DROP TABLE numbering;" + _SCHEMA).split(";"):
            connection.execute(statement)
        connection.executemany(_INSERT_ENTRY, new_rows)
        total_bytes = sum(row[_SIZE_COLUMN] for row in new_rows)
        connection.execute("INSERT INTO numbering VALUES (1, ?, ?, ?)", (epoch, next_seq, total_bytes))
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _row_of_version_1(row: tuple[Any, ...]) -> tuple[Any, ...]:
    entry_id, is_dropped_marker, ts, level, code, msg, meta_json = row
    entry = LogEntry(msg=msg, ts=ts, level=level, code=code, meta=json.loads(meta_json) if meta_json else None)
    return _row_of(entry, entry_id=entry_id, is_dropped_marker=bool(is_dropped_marker))


def _set_aside(path: Path) -> None:
    suffix = f".unreadable-{os.urandom(4).hex()}"
    for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(FileNotFoundError):
            part.rename(f"{part}{suffix}")
