"""The points of windows that are still open, on SQLite: a journal of a row a transaction, and all of it in memory.

A point in its PC's own row would make each heartbeat rewrite the five minutes before it, a page of 4 KiB a PC. The
journal takes the points of all PCs of a transaction in one row at its end, and the writer, who wrote them, knows them.
When a PC's window closes, what stays open is folded into the PC's own row; journal rows up to there say nothing of
that PC any more, and rows that say nothing of any PC are deleted.
It refuses to guess: who reads the database without this memory reads the journal.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from reco3.server.store.tables import agent_status, points_journal

PRUNE_EVERY_S = 30.0
# Twice as long as a window and its turn: whoever was not folded by then is silent, or has a clock that went back.
FOLD_AFTER_S = 720.0
FOLDS_AT_ONCE = 500

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, str]).decode
_encode_folds = msgspec.json.Encoder().encode

# One statement for many PCs: each row of its own would cost two hand-overs of Python's interpreter lock.
_FOLD = (
    "UPDATE agent_status SET open_points = fold.points, points_folded_at = ?, "
    "points_due_at = coalesce(fold.due_at, agent_status.points_due_at) "
    "FROM (SELECT json_extract(value, '$[0]') AS agent_id, json_extract(value, '$[1]') AS points, "
    "json_extract(value, '$[2]') AS due_at FROM json_each(?)) AS fold WHERE agent_status.agent_id = fold.agent_id"
)


class Open(NamedTuple):
    """A PC's open points.

    Journal rows up to `folded_at` are in the PC's own row; `since` is the first one beyond, 0 when there is none.
    """

    text: str = ""
    folded_at: int = 0
    since: int = 0


class Fold(NamedTuple):
    """What a PC's own row shall say from now on; `due_at` in Unix seconds, None to leave it."""

    agent_id: str
    text: str
    due_at: int | None = None


_NONE = Open()

log = logging.getLogger(__name__)


class OpenPoints:
    """What is open of every PC; written by the writer's thread, read by all: a value is replaced, never changed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_loaded = False
        self._known: dict[str, Open] = {}
        self._last_id = 0
        self._clock = clock
        self._pruned_at = clock()
        self._marks: deque[tuple[float, int]] = deque()

    def load(self, connection: Connection) -> None:
        """Read what is open: each PC's own row, and the journal beyond it."""
        columns = (agent_status.c.agent_id, agent_status.c.open_points, agent_status.c.points_folded_at)
        known = {row[0]: Open(row[1], row[2]) for row in connection.execute(select(*columns))}
        last_id = 0
        for last_id, texts in _journal_after(connection, 0):
            for agent_id, text in texts.items():
                before = known.get(agent_id)
                # A PC that somebody deleted has no past.
                if before is not None and before.folded_at < last_id:
                    known[agent_id] = _appended(before, text, last_id)
        self._known = known
        newest = connection.execute(select(func.max(agent_status.c.points_folded_at))).scalar_one()
        self._last_id = max(last_id, newest or 0)
        self.is_loaded = True

    def get(self, agent_id: str) -> Open:
        """What is open of a PC, as of the last durable transaction."""
        return self._known.get(agent_id, _NONE)

    def begin(self, connection: Connection) -> "OpenPointsChanges":
        """The points as one transaction of the writer sees and changes them."""
        return OpenPointsChanges(self, connection, self._last_id)

    def keep(self, changed: Mapping[str, Open], last_id: int) -> None:
        """A transaction that changed these is durable."""
        self._known.update(changed)
        self._last_id = last_id

    def is_prune_due(self) -> bool:
        """Whether to look again for journal rows that nobody needs."""
        return self._clock() - self._pruned_at >= PRUNE_EVERY_S

    def stale(self) -> list[str]:
        """Some of the PCs whose points have been in the journal for too long."""
        now = self._clock()
        self._pruned_at = now
        self._marks.append((now, self._last_id))
        while len(self._marks) > 1 and now - self._marks[1][0] >= FOLD_AFTER_S:
            self._marks.popleft()
        marked_at, fold_up_to = self._marks[0]
        if now - marked_at < FOLD_AFTER_S:
            return []
        return [name for name, one in self._known.items() if 0 < one.since <= fold_up_to][:FOLDS_AT_ONCE]

    def oldest_needed(self) -> int:
        """The first journal row that says anything that is said nowhere else."""
        return min((one.since for one in self._known.values() if one.since), default=self._last_id + 1)


class OpenPointsChanges:
    """What one transaction does to the open points; nothing counts before `keep`."""

    def __init__(self, points: OpenPoints, connection: Connection, last_id: int) -> None:
        self._points = points
        self._connection = connection
        self._last_id = last_id
        self._changed: dict[str, Open] = {}

    def get(self, agent_id: str) -> Open:
        """What is open of a PC."""
        return self._changed.get(agent_id) or self._points.get(agent_id)

    def append(self, texts: Mapping[str, str]) -> None:
        """Write more points of these PCs to the journal."""
        if not texts:
            return
        self._last_id += 1
        row = {"id": self._last_id, "points": _encode(texts)}
        self._connection.execute(insert(points_journal), row)
        for agent_id, text in texts.items():
            self._changed[agent_id] = _appended(self.get(agent_id), text, self._last_id)

    def fold(self, folds: Collection[Fold]) -> None:
        """Write what is open of these PCs into their own rows; the journal up to here counts no more for them."""
        if not folds:
            return
        self._connection.exec_driver_sql(_FOLD, (self._last_id, _encode_folds(folds).decode()))
        for agent_id, text, _ in folds:
            self._changed[agent_id] = Open(text, self._last_id)

    def prune(self) -> None:
        """Now and then: fold what has waited too long, and delete the journal rows that nobody needs."""
        if not self._points.is_prune_due():
            return
        self.fold([Fold(name, self.get(name).text) for name in self._points.stale()])
        # What this transaction folds is still counted as needed, until the next time.
        needed = self._points.oldest_needed()
        self._connection.execute(delete(points_journal).where(points_journal.c.id < needed))

    def keep(self) -> None:
        """The transaction is durable."""
        self._points.keep(self._changed, self._last_id)


def read_open_points(connection: Connection, agent_id: str, known: Open | None) -> str:
    """What is open of one PC in this connection's snapshot of the database.

    `known` is what the writer remembers: it is believed, and may be a heartbeat newer, when the PC's row was folded at
    the same place. Else the window closed between the two looks, and the journal is read.
    """
    columns = (agent_status.c.open_points, agent_status.c.points_folded_at)
    row = connection.execute(select(*columns).where(agent_status.c.agent_id == agent_id)).first()
    if row is None:
        return ""
    text, folded_at = row
    if known is not None and known.folded_at == folded_at and known.text.startswith(text):
        return known.text
    journal = _journal_after(connection, folded_at)
    return str(text) + "".join([texts.get(agent_id, "") for _, texts in journal])


def _journal_after(connection: Connection, row_id: int) -> Iterable[tuple[int, dict[str, str]]]:
    """The rows beyond one; a damaged row says nothing, and keeps nobody from starting."""
    query = select(points_journal.c.id, points_journal.c.points).where(points_journal.c.id > row_id)
    for found_id, packed in connection.execute(query.order_by(points_journal.c.id)):
        try:
            yield found_id, _decode(packed)
        except msgspec.DecodeError:
            log.warning("points_journal_damaged row=%s", found_id)
            yield found_id, {}


def _appended(before: Open, text: str, row_id: int) -> Open:
    return Open(before.text + text, before.folded_at, before.since or row_id)
