"""Remembers what must survive kill -9: every command taken, what became of it, the mode, and how to undo changes.

It refuses to forget a command's id, so that nothing runs twice, and to repair or replace a damaged file by itself.
"""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeVar

from reco3.protocol.commands import Mode

KEPT_RESULTS = 1_000
LOCK_TIMEOUT_S = 2.0
SCHEMA_VERSION = 1

T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot be read or written."""


class State(StrEnum):
    """How far a command has come."""

    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    DONE = "DONE"
    FAILED = "FAILED"


class Delivery(StrEnum):
    """What became of a command's report: still to be sent, acknowledged, or not wanted by the server."""

    OWED = "OWED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    PARKED = "PARKED"


@dataclass(frozen=True, slots=True)
class Received:
    """A command as it came; type and payload are kept as text for whoever reads the file later."""

    command_id: str
    type: str
    payload: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One command; `result` is what its report says, None while it is not over."""

    command_id: str
    type: str
    state: State
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ChosenMode:
    """The mode somebody chose: `set_by` is `default`, `local`, or the id of a command."""

    mode: Mode
    set_by: str


@dataclass(frozen=True, slots=True)
class Undo:
    """How to undo one change: `kind` is the command type that made it, `before` what that type needs for it."""

    id: int
    command_id: str
    kind: str
    before: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended, and what is committed together with that."""

    is_success: bool
    result: dict[str, Any]
    new_mode: ChosenMode | None = None
    undone: int | None = None
    is_undo_void: bool = False


_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
  seq INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, payload TEXT NOT NULL,
  state TEXT NOT NULL, result_json TEXT, delivery TEXT NOT NULL DEFAULT 'OWED');
CREATE INDEX IF NOT EXISTS commands_owed ON commands (seq) WHERE delivery = 'OWED';
CREATE TABLE IF NOT EXISTS mode (id INTEGER PRIMARY KEY CHECK (id = 1), mode TEXT NOT NULL, set_by TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS undo (
  id INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, before_json TEXT NOT NULL,
  undone_by TEXT);
"""

_FORGET_OLD_RESULTS = """
UPDATE commands SET payload = '{}',
  result_json = json_object('success', json(CASE state WHEN 'DONE' THEN 'true' ELSE 'false' END),
                            'output', 'done long ago; the PC no longer keeps the details')
WHERE delivery != 'OWED' AND payload != '{}' AND seq <= (SELECT max(seq) FROM commands) - ?
"""


class Journal:
    """The agent's SQLite file; safe to use from several threads, and beside `reco3 agent mode`.

    Opening is put off to the first use and tried again at each, so that a journal that comes back is used again.
    Every method raises JournalError when the file cannot be read or written.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._path = path
        self._lock_timeout_s = lock_timeout_s
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def find(self, command_id: str) -> Entry | None:
        """What is known of a command."""
        return self._read(lambda db: _entry(db.execute(f"{_SELECT} WHERE command_id = ?", (command_id,)).fetchone()))

    def receive(self, orders: Sequence["Received"]) -> None:
        """Record that commands have come, before anything is done about them; known ones stay as they are."""
        rows = [(order.command_id, order.type, order.payload) for order in orders]
        self._write(
            lambda db: db.executemany(
                "INSERT OR IGNORE INTO commands (command_id, type, payload, state) VALUES (?, ?, ?, 'RECEIVED')", rows
            )
        )

    def start(self, command_id: str) -> None:
        """Record that acting begins; from here on a command is never begun again."""
        self._write(lambda db: db.execute("UPDATE commands SET state = 'STARTED' WHERE command_id = ?", (command_id,)))

    def finish(self, command_id: str, ending: Ending) -> None:
        """Record how a command ended, with its change of mode and its undoing, all or nothing."""
        self._write(lambda db: _finish(db, command_id, ending))

    def end_interrupted(self, ending_of: Callable[[Entry], Ending]) -> list[Entry]:
        """End what an earlier run of the agent left open, as `ending_of` says; returns what was found open.

        The results of long ago are shortened at this occasion.
        """
        return self._write(lambda db: _end_open(db, ending_of))

    def owed_reports(self) -> list[Entry]:
        """Commands that are over and whose report the server has not acknowledged, oldest first."""
        sql = f"{_SELECT} WHERE delivery = 'OWED' AND state IN ('DONE', 'FAILED') ORDER BY seq LIMIT 100"
        return self._read(lambda db: [entry for row in db.execute(sql) if (entry := _entry(row))])

    def set_delivery(self, command_id: str, delivery: Delivery) -> None:
        """Record what became of a report, or that it is owed once more."""
        self._write(
            lambda db: db.execute("UPDATE commands SET delivery = ? WHERE command_id = ?", (delivery, command_id))
        )

    def mode(self) -> ChosenMode:
        """The mode that was chosen last."""
        return self._read(_chosen_mode)

    def choose_mode(self, mode: Mode) -> None:
        """Record a mode chosen on the PC itself."""
        self._write(lambda db: _set_mode(db, ChosenMode(mode, "local")))

    def remember_undo(self, command_id: str, *, kind: str, before: dict[str, Any]) -> None:
        """Record how to undo a change that is about to be made."""
        self._write(lambda db: _add_undo(db, command_id, kind=kind, before=before))

    def last_undo(self) -> Undo | None:
        """The last change that is not undone yet."""
        sql = "SELECT id, command_id, kind, before_json FROM undo WHERE undone_by IS NULL ORDER BY id DESC LIMIT 1"
        return self._read(lambda db: _undo(db.execute(sql).fetchone()))

    def undo_of(self, command_id: str) -> Undo | None:
        """The change that a command made, if it is not undone yet."""
        sql = "SELECT id, command_id, kind, before_json FROM undo WHERE undone_by IS NULL AND command_id = ?"
        return self._read(lambda db: _undo(db.execute(sql, (command_id,)).fetchone()))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._drop()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._translated():
            return query(self._opened())

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._translated():
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                result = change(db)
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            return result

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            self._drop()
            raise JournalError(f"{self._path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._path, self._lock_timeout_s)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class StateDirLock:
    """Lets one agent at a time use a state folder; the operating system frees it when the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "agent.lock"
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock, or return False when another agent has it. Raises: OSError."""
        file = self._path.open("ab")
        try:
            _lock_exclusively(file)
        except (BlockingIOError, PermissionError):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _lock_exclusively(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - exists on Windows only

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415 - does not exist on Windows

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_SELECT = "SELECT command_id, type, state, result_json FROM commands"


def _open(path: Path, lock_timeout_s: float) -> sqlite3.Connection:
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=lock_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -256")
        _make_tables(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _make_tables(db: sqlite3.Connection) -> None:
    """Only where they are missing: opening a journal that another process is writing to must not wait for it."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError("it was written by a newer agent")
    if version < SCHEMA_VERSION:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _entry(row: tuple[str, str, str, str | None] | None) -> Entry | None:
    if row is None:
        return None
    command_id, type_, state, result_json = row
    return Entry(command_id, type_, State(state), json.loads(result_json) if result_json else None)


def _undo(row: tuple[int, str, str, str] | None) -> Undo | None:
    return Undo(row[0], row[1], row[2], json.loads(row[3])) if row else None


def _finish(db: sqlite3.Connection, command_id: str, ending: Ending) -> None:
    db.execute(
        "UPDATE commands SET state = ?, result_json = ?, delivery = 'OWED' WHERE command_id = ?",
        (State.DONE if ending.is_success else State.FAILED, json.dumps(ending.result), command_id),
    )
    if ending.is_undo_void:
        db.execute("DELETE FROM undo WHERE command_id = ?", (command_id,))
    if ending.undone is not None:
        db.execute("UPDATE undo SET undone_by = ? WHERE id = ?", (command_id, ending.undone))
    if ending.new_mode is not None:
        _change_mode(db, ending.new_mode, is_undoing=ending.undone is not None)


def _change_mode(db: sqlite3.Connection, new: ChosenMode, *, is_undoing: bool) -> None:
    """Choosing the mode that holds already is no change: there is nothing to undo, and whose choice it is stays."""
    before = _chosen_mode(db)
    if is_undoing:
        _set_mode(db, new)
    elif before.mode is not new.mode:
        _add_undo(db, new.set_by, kind="SET_MODE", before={"mode": before.mode, "set_by": before.set_by})
        _set_mode(db, new)


def _chosen_mode(db: sqlite3.Connection) -> ChosenMode:
    row = db.execute("SELECT mode, set_by FROM mode").fetchone()
    return ChosenMode(Mode(row[0]), row[1]) if row else ChosenMode(Mode.NORMAL, "default")


def _set_mode(db: sqlite3.Connection, chosen: ChosenMode) -> None:
    db.execute("INSERT OR REPLACE INTO mode (id, mode, set_by) VALUES (1, ?, ?)", (chosen.mode, chosen.set_by))


def _add_undo(db: sqlite3.Connection, command_id: str, *, kind: str, before: dict[str, Any]) -> None:
    db.execute(
        "INSERT INTO undo (command_id, kind, before_json) VALUES (?, ?, ?)", (command_id, kind, json.dumps(before))
    )


def _end_open(db: sqlite3.Connection, ending_of: Callable[[Entry], Ending]) -> list[Entry]:
    rows = db.execute(f"{_SELECT} WHERE state IN ('RECEIVED', 'STARTED') ORDER BY seq").fetchall()
    entries = [entry for row in rows if (entry := _entry(row))]
    for entry in entries:
        _finish(db, entry.command_id, ending_of(entry))
    db.execute(_FORGET_OLD_RESULTS, (KEPT_RESULTS,))
    return entries
