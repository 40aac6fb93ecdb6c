"""Remembers what must survive kill -9: every command taken, what became of it, the mode, and how to undo changes.

It refuses to forget a command's id, so that nothing runs twice, and to repair or replace a damaged file by itself.
"""

import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeVar

from reco3.agent.budget import HOUR, Begun
from reco3.agent.clocks import as_text, parse_time
from reco3.agent.lifecycle import Entry, State, Veto
from reco3.agent.security import Order
from reco3.protocol.commands import CommandType, Mode, Strength, needs_approval

KEPT_RESULTS = 1_000
LOCK_TIMEOUT_S = 2.0
LOCK_FILE = "agent.lock"
LOOK_AGAIN_S = 0.05
MAX_ORDER_CHARS = 64 * 1024
_SYNCHRONOUS_FULL = 2

T = TypeVar("T")


class JournalError(Exception):
    """The journal cannot be read or written."""


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
    order: Order | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """A command that begins now: what the world looks like, and what its budget will count."""

    command_id: str
    at: datetime
    strength: Strength
    target: str
    before: dict[str, Any]


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
    """How a command ended, and what is committed together with that; `is_unknown` is neither success nor failure."""

    is_success: bool
    result: dict[str, Any]
    new_mode: ChosenMode | None = None
    undone: int | None = None
    is_undo_void: bool = False
    is_unknown: bool = False

    @property
    def state(self) -> State:
        """The state that the command is in from now on."""
        if self.is_unknown:
            return State.UNKNOWN
        return State.DONE if self.is_success else State.FAILED


# The n-th brings a file of version n - 1 to version n; what is in the field is never changed, only added to.
_MIGRATIONS = (
    """
CREATE TABLE commands (
  seq INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, payload TEXT NOT NULL,
  state TEXT NOT NULL, result_json TEXT, delivery TEXT NOT NULL DEFAULT 'OWED');
CREATE INDEX commands_owed ON commands (seq) WHERE delivery = 'OWED';
CREATE TABLE mode (id INTEGER PRIMARY KEY CHECK (id = 1), mode TEXT NOT NULL, set_by TEXT NOT NULL);
CREATE TABLE undo (
  id INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, before_json TEXT NOT NULL,
  undone_by TEXT);
""",
    """
ALTER TABLE commands ADD COLUMN order_json TEXT;
ALTER TABLE commands ADD COLUMN strength TEXT;
ALTER TABLE commands ADD COLUMN target TEXT;
ALTER TABLE commands ADD COLUMN expires_at TEXT;
ALTER TABLE commands ADD COLUMN accepted_at TEXT;
ALTER TABLE commands ADD COLUMN acts_at TEXT;
ALTER TABLE commands ADD COLUMN vetoed_by TEXT;
ALTER TABLE commands ADD COLUMN vetoed_at TEXT;
ALTER TABLE commands ADD COLUMN started_at TEXT;
ALTER TABLE commands ADD COLUMN before_json TEXT;
ALTER TABLE commands ADD COLUMN ended_at TEXT;
CREATE INDEX commands_open ON commands (seq) WHERE state IN ('RECEIVED', 'ACCEPTED', 'STARTED');
CREATE INDEX commands_begun ON commands (started_at) WHERE started_at IS NOT NULL;
CREATE TABLE about (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, highest_clock TEXT NOT NULL);
CREATE TABLE breakers (code TEXT PRIMARY KEY, told_at TEXT NOT NULL);
INSERT INTO about VALUES (1, lower(hex(randomblob(16))), '');
""",
)
SCHEMA_VERSION = len(_MIGRATIONS)

_FORGET_OLD_RESULTS = """
UPDATE commands SET payload = '{}',
  result_json = json_object('success', json(CASE state WHEN 'DONE' THEN 'true' ELSE 'false' END),
                            'output', 'done long ago; the PC no longer keeps the details')
WHERE delivery != 'OWED' AND payload != '{}' AND seq <= (SELECT max(seq) FROM commands) - ?
"""


class Journal:
    """The agent's SQLite file; safe to use from several threads, and beside `reco3 agent mode` and `veto`.

    Opening is put off to the first use and tried again at each, so that a journal that comes back is used again.
    Every method raises JournalError when the file cannot be read or written.
    Each commit also remembers the highest time that `clock` ever showed.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._lock_timeout_s = lock_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def epoch(self) -> str:
        """Name this journal: a random id that was made with the file and is lost with it."""
        return self._read(lambda db: str(db.execute("SELECT epoch FROM about").fetchone()[0]))

    def find(self, command_id: str) -> Entry | None:
        """What is known of a command."""
        return self._read(lambda db: _entry(db.execute(f"{_SELECT} WHERE command_id = ?", (command_id,)).fetchone()))

    def receive(self, orders: Sequence["Received"]) -> None:
        """Record that commands have come, before anything is done about them; known ones stay as they are.

        It survives a crash of the agent. After a power cut it may be gone, unless anything was recorded since: then it
        is as if they had never come, and the server, which has heard nothing of them, sends them again.
        """
        rows = [_row(order) for order in orders]
        self._write(
            lambda db: db.executemany(
                "INSERT OR IGNORE INTO commands (command_id, type, payload, order_json, expires_at, state)"
                " VALUES (?, ?, ?, ?, ?, 'RECEIVED')",
                rows,
            ),
            is_flushed=False,
        )

    def has_handed_over(self) -> bool:
        """Whether somebody at this PC handed a command over that the agent has not looked at yet."""
        sql = "SELECT 1 FROM commands WHERE state = 'RECEIVED' AND json_extract(order_json, '$.used_by') IS NOT NULL"
        return self._read(lambda db: db.execute(sql).fetchone() is not None)

    def withdraw(self, command_id: str) -> bool:
        """Forget a command that was handed over and not looked at; False when it is too late for that."""
        sql = (
            "DELETE FROM commands WHERE command_id = ? AND state = 'RECEIVED'"
            " AND json_extract(order_json, '$.used_by') IS NOT NULL"
        )
        return self._write(lambda db: db.execute(sql, (command_id,)).rowcount == 1)

    def accept(self, command_id: str, acts_at: datetime) -> bool:
        """Record that a command will act then, unless something stops it; False when it is not waiting any more."""
        sql = (
            "UPDATE commands SET state = 'ACCEPTED', accepted_at = ?, acts_at = ?"
            " WHERE command_id = ? AND state IN ('RECEIVED', 'ACCEPTED') AND vetoed_by IS NULL"
        )
        now = as_text(self._clock())
        return self._write(lambda db: db.execute(sql, (now, as_text(acts_at), command_id)).rowcount == 1)

    def start(self, beginning: Beginning) -> bool:
        """Record that acting begins; True for one caller alone, ever: from here on a command is never begun again."""
        sql = (
            "UPDATE commands SET state = 'STARTED', started_at = ?, strength = ?, target = ?, before_json = ?"
            " WHERE command_id = ? AND state IN ('RECEIVED', 'ACCEPTED') AND vetoed_by IS NULL"
        )
        one = beginning
        values = (as_text(one.at), one.strength, one.target, json.dumps(one.before), one.command_id)
        return self._write(lambda db: db.execute(sql, values).rowcount == 1)

    def finish(self, command_id: str, ending: Ending) -> None:
        """Record how a command ended, with its change of mode and its undoing, all or nothing; an end is final."""
        now = as_text(self._clock())
        self._write(lambda db: _finish(db, _END_ANY_OPEN, command_id, ending, now))

    def refuse(self, command_id: str, ending: Ending) -> bool:
        """Record how a command ended that was never begun; False when it was begun or ended meanwhile."""
        now = as_text(self._clock())
        return self._write(lambda db: _finish(db, _END_UNSTARTED, command_id, ending, now))

    def open_entries(self) -> list[Entry]:
        """Commands that are not over, oldest first."""
        sql = f"{_SELECT} WHERE state IN ('RECEIVED', 'ACCEPTED', 'STARTED') ORDER BY seq"
        return self._read(lambda db: [entry for row in db.execute(sql) if (entry := _entry(row))])

    def veto(self, command_id: str | None, *, by: str) -> list[str]:
        """Stop one or all strong commands that have not begun; returns the ids of those that this stopped."""
        now = as_text(self._clock())
        return self._write(lambda db: _veto(db, command_id, by=by, now=now))

    def begun_since(self, moment: datetime) -> list[Begun]:
        """The strong commands that were begun or ended after `moment`."""
        sql = (
            "SELECT target, started_at, ended_at FROM commands WHERE started_at IS NOT NULL AND strength = 'strong'"
            " AND (started_at > ? OR ended_at > ? OR ended_at IS NULL)"
        )
        rows = (as_text(moment),) * 2
        return self._read(lambda db: [_begun(row) for row in db.execute(sql, rows)])

    def highest_clock(self) -> datetime | None:
        """The highest time that was ever recorded here."""
        return self._read(lambda db: parse_time(db.execute("SELECT highest_clock FROM about").fetchone()[0]))

    def note_clock(self) -> None:
        """Record the time, when nothing else was recorded for long."""
        self._write(lambda _: None)

    def trust_clock(self) -> None:
        """Forget the highest time: somebody at the PC says that the clock is right now."""
        self._write(lambda db: db.execute("UPDATE about SET highest_clock = ''"))

    def is_breaker_news(self, code: str) -> bool:
        """Whether a breaker's trip is to be told now: once an hour each; True means that it was noted as told."""
        now = self._clock()
        sql = (
            "INSERT INTO breakers VALUES (?, ?) ON CONFLICT (code) DO UPDATE SET told_at = excluded.told_at"
            " WHERE told_at <= ? OR told_at > excluded.told_at"
        )
        values = (code, as_text(now), as_text(now - HOUR))
        return self._write(lambda db: db.execute(sql, values).rowcount == 1)

    def forget_old_results(self) -> None:
        """Shorten the results of long ago; the commands' ids stay for ever."""
        self._write(lambda db: db.execute(_FORGET_OLD_RESULTS, (KEPT_RESULTS,)))

    def owed_reports(self) -> list[Entry]:
        """Commands that are over and whose report the server has not acknowledged, oldest first."""
        sql = f"{_SELECT} WHERE delivery = 'OWED' AND state IN ('DONE', 'FAILED', 'UNKNOWN') ORDER BY seq LIMIT 100"
        return self._read(lambda db: [entry for row in db.execute(sql) if (entry := _entry(row))])

    def set_delivery(self, command_id: str, delivery: Delivery) -> None:
        """Record what became of a report, or that it is owed once more; lost in a power cut, it is sent once more."""
        self._write(
            lambda db: db.execute("UPDATE commands SET delivery = ? WHERE command_id = ?", (delivery, command_id)),
            is_flushed=False,
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

    def damage(self) -> str:
        """What SQLite finds wrong with the file, in its own words; empty when nothing is."""
        first = self._read(lambda db: str(db.execute("PRAGMA quick_check(1)").fetchone()[0]))
        return "" if first == "ok" else first

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._drop()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._translated():
            return query(self._opened())

    def _write(self, change: Callable[[sqlite3.Connection], T], *, is_flushed: bool = True) -> T:
        """Commit a change; one that is not flushed to the disk now is so with the next one that is."""
        with self._lock, self._translated():
            db = self._opened()
            db.execute(f"PRAGMA synchronous = {'FULL' if is_flushed else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                result = change(db)
                db.execute("UPDATE about SET highest_clock = ? WHERE highest_clock < ?", (as_text(self._clock()),) * 2)
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
        self._path = state_dir / LOCK_FILE
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock, or return False when another agent has it. Raises: OSError.

        The file's time then says since when this agent runs.
        """
        # Whoever only looks whether it is taken has it for a moment.
        if not self._try():
            time.sleep(LOOK_AGAIN_S)
            if not self._try():
                return False
        os.utime(self._path)
        return True

    def taken_since(self) -> datetime | None:
        """When the agent that has it now took it; None when none has. Nothing is changed. Raises: OSError."""
        with self._path.open("rb") as file:
            try:
                _lock(file, is_shared=True)
            except (BlockingIOError, PermissionError):
                return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        return None

    def _try(self) -> bool:
        file = self._path.open("ab")
        try:
            _lock(file)
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


def _lock(file: IO[bytes], *, is_shared: bool = False) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - exists on Windows only

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415 - does not exist on Windows

        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


_END_ANY_OPEN = (
    "UPDATE commands SET state = ?, result_json = ?, delivery = 'OWED', ended_at = ?"
    " WHERE command_id = ? AND state IN ('RECEIVED', 'ACCEPTED', 'STARTED')"
)
_END_UNSTARTED = (
    "UPDATE commands SET state = ?, result_json = ?, delivery = 'OWED', ended_at = ?"
    " WHERE command_id = ? AND state IN ('RECEIVED', 'ACCEPTED')"
)
_SELECT = (
    "SELECT command_id, type, state, result_json, order_json, expires_at, acts_at, vetoed_by, vetoed_at, before_json,"
    " started_at FROM commands"
)


def _open(path: Path, lock_timeout_s: float) -> sqlite3.Connection:
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=lock_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -256")
        if db.execute("PRAGMA synchronous").fetchone() != (_SYNCHRONOUS_FULL,):
            raise sqlite3.DatabaseError("it cannot be flushed to the disk at every commit")
        _migrate(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """Only where it is needed: opening a journal that another process is writing to must not wait for it."""
    if _version(db) == SCHEMA_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Looked at again: another thread or `reco3 agent mode` may have been faster.
        for number in range(_version(db), SCHEMA_VERSION):
            for statement in _MIGRATIONS[number].split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _version(db: sqlite3.Connection) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError("it was written by a newer agent")
    return version


def _row(order: Received) -> tuple[str, str, str, str | None, str | None]:
    expires_at = None if order.expires_at is None else as_text(order.expires_at)
    return order.command_id, order.type, order.payload, _order_json(order.order), expires_at


def _order_json(order: Order | None) -> str | None:
    """What it takes to go on with an order after a crash; one that is too large to be right is not kept."""
    if order is None:
        return None
    try:
        text = json.dumps(asdict(order) | {"absent": sorted(order.absent)})
    except RecursionError:
        return None
    return text if len(text) <= MAX_ORDER_CHARS else None


def _parse_order(text: str | None) -> Order | None:
    if text is None:
        return None
    fields = json.loads(text)
    sets = {"absent": frozenset(fields["absent"]), "signed_by": tuple(fields.get("signed_by", ()))}
    return Order(**fields | sets)


def _entry(row: tuple[Any, ...] | None) -> Entry | None:
    if row is None:
        return None
    command_id, type_, state, result_json, order_json, expires_at, acts_at, vetoed_by, vetoed_at, before_json, began = (
        row
    )
    at = parse_time(vetoed_at)
    return Entry(
        command_id,
        type_,
        State(state),
        result=json.loads(result_json) if result_json else None,
        order=_parse_order(order_json),
        expires_at=parse_time(expires_at),
        acts_at=parse_time(acts_at),
        veto=Veto(vetoed_by, at) if vetoed_by and at else None,
        before=json.loads(before_json) if before_json else {},
        began_at=parse_time(began),
    )


def _begun(row: tuple[str, str, str | None]) -> Begun:
    began_at = parse_time(row[1])
    if began_at is None:
        raise ValueError("a command's started_at is no time")
    return Begun(row[0], began_at, parse_time(row[2]))


def _veto(db: sqlite3.Connection, command_id: str | None, *, by: str, now: str) -> list[str]:
    sql = (
        "SELECT command_id, type FROM commands WHERE state IN ('RECEIVED', 'ACCEPTED') AND vetoed_by IS NULL"
        " ORDER BY seq"
    )
    stopped = [
        waiting_id
        for waiting_id, type_ in db.execute(sql).fetchall()
        if is_strong(type_) and command_id in {None, waiting_id}
    ]
    db.executemany(
        "UPDATE commands SET vetoed_by = ?, vetoed_at = ? WHERE command_id = ?", [(by, now, one) for one in stopped]
    )
    return stopped


def is_strong(type_: str) -> bool:
    """Whether the command type of that name is a strong one."""
    return type_ in set(CommandType) and needs_approval(CommandType(type_))


def _undo(row: tuple[int, str, str, str] | None) -> Undo | None:
    return Undo(row[0], row[1], row[2], json.loads(row[3])) if row else None


def _finish(db: sqlite3.Connection, sql: str, command_id: str, ending: Ending, now: str) -> bool:
    changed = db.execute(sql, (ending.state, json.dumps(ending.result), now, command_id))
    if changed.rowcount != 1:
        return False
    if ending.is_undo_void:
        db.execute("DELETE FROM undo WHERE command_id = ?", (command_id,))
    if ending.undone is not None:
        db.execute("UPDATE undo SET undone_by = ? WHERE id = ?", (command_id, ending.undone))
    if ending.new_mode is not None:
        _change_mode(db, ending.new_mode, is_undoing=ending.undone is not None)
    return True


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
