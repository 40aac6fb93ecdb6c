"""What must reach the server and has not yet: log entries and file offsets in one SQLite file that survives kill -9.

An entry and the offset it was read up to are committed together, so a line is spooled exactly once.
It refuses to number an entry before its first sending: what is dropped for want of space leaves no hole in the numbers.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reco3.protocol.commands import Severity
from reco3.protocol.limits import MAX_LOG_ENTRIES_PER_BATCH
from reco3.protocol.messages import LogEntry

STREAM = "logs"
DROPPED_CODE = "LOG_DROPPED"
GAP_CODE = "LOG_GAP"
# JSON escapes triple a text at worst, so a batch of this size stays under the server's limit for a body.
MAX_BATCH_BYTES = 1024 * 1024

_SCHEMA_VERSION = 1
_ROW_OVERHEAD_BYTES = 64
_SEVERITIES: Mapping[str, int] = {Severity.WARN: 1, Severity.ERROR: 2, Severity.CRITICAL: 3}
_SCHEMA = """
CREATE TABLE numbering (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, total_bytes INTEGER NOT NULL
);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, seq INTEGER, is_dropped_marker INTEGER NOT NULL, severity INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, ts TEXT NOT NULL, level TEXT NOT NULL, code TEXT, msg TEXT NOT NULL, meta_json TEXT
);
CREATE UNIQUE INDEX entries_by_seq ON entries (seq) WHERE seq IS NOT NULL;
CREATE INDEX entries_by_worth ON entries (severity, id) WHERE seq IS NULL AND NOT is_dropped_marker;
CREATE TABLE offsets (path TEXT PRIMARY KEY, offset_json TEXT NOT NULL);
"""
_INSERT_ENTRY = (
    "INSERT INTO entries (id, is_dropped_marker, severity, size_bytes, ts, level, code, msg, meta_json)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SIZE_COLUMN = 3


@dataclass(frozen=True, slots=True)
class FileOffset:
    """Which file was read, and how far.

    The file is known by device and inode, by the hash of its first `head_bytes` bytes and by the hash of the last bytes
    before `offset` (at most 64): an inode alone is reused by the next file.
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries under their final numbers: the n-th has sequence number `first_seq + n`."""

    stream: str
    epoch: str
    first_seq: int
    entries: tuple[LogEntry, ...]


class SpoolTooNewError(Exception):
    """The spool was written by a newer version of the agent."""


class Spool:
    """A bounded queue of log entries on disk, used from one thread.

    `max_bytes` bounds the entries; the file is somewhat larger.
    A file that is no readable spool is set aside, never deleted, and the new spool starts with an entry that says so.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, make_epoch: Callable[[], str] = lambda: os.urandom(8).hex()
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._make_epoch = make_epoch
        self._connection = self._open_or_set_aside()

    def append(self, lines: Sequence[LogEntry], offsets: Mapping[str, FileOffset]) -> None:
        """Keep `lines` and the offsets they were read up to, in one transaction, durable on return.

        Paths that `offsets` does not name keep theirs.
        """
        with self._transaction():
            self._insert(lines)
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

        What was given before and not acknowledged comes again, under the same numbers, before anything new.
        """
        bounded_limit = min(limit, MAX_LOG_ENTRIES_PER_BATCH)
        rows = self._numbered_rows(bounded_limit)
        if not rows:
            self._number_entries(bounded_limit)
            rows = self._numbered_rows(bounded_limit)
        if not rows:
            return None
        return Batch(STREAM, self._numbering("epoch"), rows[0][0], tuple(_parse_entry(row[1:]) for row in rows))

    def ack(self, seq: int) -> None:
        """Forget everything up to `seq`: the server holds it.

        A number that this spool never gave out means that the spool was restored from an older copy.
        The server would take new lines for old ones, so the numbering starts again under a new epoch.
        """
        with self._transaction():
            if seq >= int(self._numbering("next_seq")):
                self._start_epoch()
                return
            (size,) = self._connection.execute(
                "SELECT coalesce(sum(size_bytes), 0) FROM entries WHERE seq <= ?", (seq,)
            ).fetchone()
            self._connection.execute("DELETE FROM entries WHERE seq <= ?", (seq,))
            self._grow(-size)

    def pending_count(self) -> int:
        """How many entries the server has not acknowledged."""
        (count,) = self._connection.execute("SELECT count(*) FROM entries").fetchone()
        return int(count)

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

    def _insert(self, lines: Sequence[LogEntry]) -> None:
        rows = [_row_of(entry) for entry in lines]
        self._connection.executemany(_INSERT_ENTRY, rows)
        self._grow(sum(row[_SIZE_COLUMN] for row in rows))

    def _drop_excess(self) -> None:
        excess_bytes = int(self._numbering("total_bytes")) - self._max_bytes
        if excess_bytes <= 0:
            return
        dropped = self._least_worthy(excess_bytes)
        if not dropped:
            return
        self._connection.executemany("DELETE FROM entries WHERE id = ?", [(row.entry_id,) for row in dropped])
        self._grow(-sum(row.size_bytes for row in dropped))
        self._mark_dropped(dropped)

    def _least_worthy(self, excess_bytes: int) -> list["_DroppedRow"]:
        cursor = self._connection.execute(
            "SELECT id, size_bytes, level, ts FROM entries WHERE seq IS NULL AND NOT is_dropped_marker"
            " ORDER BY severity, id"
        )
        dropped: list[_DroppedRow] = []
        for row in cursor:
            dropped.append(_DroppedRow(*row))
            excess_bytes -= dropped[-1].size_bytes
            if excess_bytes <= 0:
                break
        return dropped

    def _mark_dropped(self, dropped: list["_DroppedRow"]) -> None:
        marker_id, levels = self._take_dropped_marker()
        for row in dropped:
            levels[row.level] = levels.get(row.level, 0) + 1
        count = sum(levels.values())
        marker = LogEntry(
            msg=f"{count} log lines were dropped on this PC: the spool reached its limit of {self._max_bytes} bytes",
            ts=max(row.ts for row in dropped),
            level=max(levels, key=lambda level: _SEVERITIES.get(level, 0)),
            code=DROPPED_CODE,
            meta={"dropped": count, "levels": levels},
        )
        place = marker_id if marker_id is not None else min(row.entry_id for row in dropped)
        marker_row = _row_of(marker, entry_id=place, is_dropped_marker=True)
        self._connection.execute(_INSERT_ENTRY, marker_row)
        self._grow(marker_row[_SIZE_COLUMN])

    def _take_dropped_marker(self) -> tuple[int | None, dict[str, int]]:
        row = self._connection.execute(
            "SELECT id, size_bytes, meta_json FROM entries WHERE is_dropped_marker AND seq IS NULL"
        ).fetchone()
        if row is None:
            return None, {}
        marker_id, size_bytes, meta_json = row
        self._connection.execute("DELETE FROM entries WHERE id = ?", (marker_id,))
        self._grow(-size_bytes)
        return marker_id, json.loads(meta_json)["levels"]

    def _numbered_rows(self, limit: int) -> list[tuple[Any, ...]]:
        return self._connection.execute(
            "SELECT seq, ts, level, code, msg, meta_json FROM entries WHERE seq IS NOT NULL ORDER BY seq LIMIT ?",
            (limit,),
        ).fetchall()

    def _number_entries(self, limit: int) -> None:
        with self._transaction():
            next_seq = int(self._numbering("next_seq"))
            ids = self._ids_of_one_batch(limit)
            self._connection.executemany(
                "UPDATE entries SET seq = ? WHERE id = ?", [(next_seq + n, entry_id) for n, entry_id in enumerate(ids)]
            )
            self._connection.execute("UPDATE numbering SET next_seq = ?", (next_seq + len(ids),))

    def _ids_of_one_batch(self, limit: int) -> list[int]:
        ids: list[int] = []
        total_bytes = 0
        for entry_id, size_bytes in self._connection.execute(
            "SELECT id, size_bytes FROM entries WHERE seq IS NULL ORDER BY id LIMIT ?", (limit,)
        ):
            total_bytes += size_bytes
            if ids and total_bytes > MAX_BATCH_BYTES:
                break
            ids.append(entry_id)
        return ids

    def _start_epoch(self) -> None:
        self._connection.execute("UPDATE entries SET seq = NULL")
        self._connection.execute("UPDATE numbering SET epoch = ?, next_seq = 1", (self._make_epoch(),))

    def _numbering(self, column: str) -> Any:
        return self._connection.execute(f"SELECT {column} FROM numbering").fetchone()[0]  # noqa: S608 - our own column names

    def _grow(self, size_bytes: int) -> None:
        self._connection.execute("UPDATE numbering SET total_bytes = total_bytes + ?", (size_bytes,))


@dataclass(frozen=True, slots=True)
class _DroppedRow:
    entry_id: int
    size_bytes: int
    level: str
    ts: str


def _row_of(entry: LogEntry, *, entry_id: int | None = None, is_dropped_marker: bool = False) -> tuple[Any, ...]:
    meta_json = None if entry.meta is None else json.dumps(entry.meta)
    texts = (entry.ts, entry.level, entry.code, entry.msg, meta_json)
    size_bytes = _ROW_OVERHEAD_BYTES + sum(len(text.encode()) for text in texts if text)
    return (entry_id, is_dropped_marker, _SEVERITIES.get(entry.level or "", 0), size_bytes, *texts)


def _parse_offset(fields: dict[str, Any]) -> FileOffset:
    older = tuple(_parse_offset(one) for one in fields["older"])
    return FileOffset(**{**fields, "older": older})


def _parse_entry(row: tuple[Any, ...]) -> LogEntry:
    ts, level, code, msg, meta_json = row
    return LogEntry(msg=msg, ts=ts, level=level, code=code, meta=None if meta_json is None else json.loads(meta_json))


def _set_aside(path: Path) -> None:
    suffix = f".unreadable-{os.urandom(4).hex()}"
    for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(FileNotFoundError):
            part.rename(f"{part}{suffix}")
