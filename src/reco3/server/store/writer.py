"""The grouped-commit writer: one thread, one write connection, one transaction for all that waits.

While one transaction is being committed the next batch gathers; a write is answered when its batch is durable.
What may wait, heartbeats and log lines, waits some milliseconds for company where many small transactions would follow
each other: each costs a flush of the disk. There is no loss window; the writer refuses what it cannot hold instead of
forgetting it.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from reco3.server.domain.errors import Busy, Reco3Error
from reco3.server.store.hints import CHANNEL, Hints, Telling
from reco3.server.store.open_points import OpenPoints
from reco3.server.store.pulses import PulseCache
from reco3.server.store.transaction import TableTransaction

MAX_WAITING = 50_000
MAX_BATCH = 2_000

# So long a queue means seconds of waiting: what can wait, such as log lines, is better sent again later.
MANY_WAITING = 5_000

# A patient write waits until so long after the last transaction, or until so many wait; nothing else waits.
PATIENCE_S = 0.025
COMPANY = 32

GroupedWork = Callable[[TableTransaction, Sequence[Any]], Sequence[Any]]
Told = Callable[[Any, BaseException | None], None]

log = logging.getLogger(__name__)


class _Write(NamedTuple):
    work: GroupedWork
    item: Any
    told: Told
    is_patient: bool = False


class _Outcome(NamedTuple):
    write: _Write
    result: Any = None
    error: BaseException | None = None


class _NobodyCanWriteError(Exception):
    """No transaction could begin: the database is locked or away, whatever the items are."""


class Writer:
    """Runs writes in groups on its own thread."""

    def __init__(self, engine: Engine, *, points: OpenPoints | None = None, telling: Telling | None = None) -> None:
        """`points` is given to the only writer of its database, who may rely on what he remembers.

        `telling` is given to one of several, who tells the others in each transaction what it writes.
        """
        self._telling = telling
        self._engine = engine
        self._points = points
        self._pulses = PulseCache() if points else None
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._wanted = COMPANY
        self._thread = threading.Thread(target=self._run, name="reco3-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._is_lost = False
        self._wrote_at = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write; answers arrive on `loop`."""
        self._loop = loop
        self._is_open = True
        self._thread.start()

    async def submit(self, work: GroupedWork, item: Any) -> Any:
        """Write one item; returns what `work` returned for it, once it is durable.

        Raises:
            Busy: too much waits already, the server is stopping, or the database refuses to write.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.post(work, item, told=partial(_settle, answer))
        return await answer

    def post(self, work: GroupedWork, item: Any, *, told: Told, is_patient: bool = False) -> None:
        """Write one item; once it is durable `told(result, None)` is called on the loop, else `told(None, error)`.

        A patient one may wait some milliseconds for others to share its transaction.

        Raises:
            Busy: too much waits already, or the server is stopping.
        """
        if not self._is_open or self._loop is None:
            raise Busy("The server is stopping; send this again in a moment.")
        if self._waiting.qsize() >= MAX_WAITING:
            raise Busy("Too many writes are waiting; send this again in a moment.")
        self._waiting.put(_Write(work, item, told, is_patient))
        # What is patient wakes nobody: a wake-up for each heartbeat costs more than the heartbeat.
        if (not is_patient or self._waiting.qsize() >= self._wanted) and not self._hurry.is_set():
            self._hurry.set()

    @property
    def is_busy(self) -> bool:
        """Whether so much waits that what can wait should come later."""
        return self._waiting.qsize() >= MANY_WAITING

    def close(self) -> None:
        """Write everything that was accepted, then stop."""
        if self._is_open:
            self._is_open = False
            self._waiting.put(None)
            self._hurry.set()
            self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, is_last = self._gather()
            if batch:
                self._answer(self._commit(batch))
                self._wrote_at = time.monotonic()

    def _gather(self) -> tuple[list[_Write], bool]:
        first = self._waiting.get()
        if first is None:
            return [], True
        batch = [first]
        # Whoever brings something after this calls again; what was brought before is in the queue by now.
        self._hurry.clear()
        is_last = self._drain_into(batch)
        if not is_last and all(write.is_patient for write in batch):
            self._wait_for_company(COMPANY - len(batch))
            is_last = self._drain_into(batch)
        return batch, is_last

    def _wait_for_company(self, wanted: int) -> None:
        wait_s = self._wrote_at + PATIENCE_S - time.monotonic()
        self._wanted = wanted
        # What came before it was said how many are wanted is counted here.
        if wait_s > 0 and self._waiting.qsize() < wanted:
            self._hurry.wait(wait_s)

    def _drain_into(self, batch: list[_Write]) -> bool:
        """Take what waits; returns whether it was the last that will ever come."""
        while len(batch) < MAX_BATCH:
            try:
                write = self._waiting.get_nowait()
            except queue.Empty:
                return False
            if write is None:
                return True
            batch.append(write)
        return False

    def _commit(self, batch: Sequence[_Write]) -> list[_Outcome]:
        try:
            outcomes = self._commit_together(batch)
        except _NobodyCanWriteError as err:
            self._note_lost(err)
            return [_Outcome(write, error=_busy()) for write in batch]
        except Exception as err:  # noqa: BLE001 - one item's failure must not be its neighbours'; each is told its own
            if len(batch) == 1:
                return [_Outcome(batch[0], error=_public_error(err))]
            return [outcome for write in batch for outcome in self._commit([write])]
        self._note_back()
        return outcomes

    def _note_lost(self, err: Exception) -> None:
        if not self._is_lost:
            self._is_lost = True
            log.error("database_lost", exc_info=err)

    def _note_back(self) -> None:
        if self._is_lost:
            self._is_lost = False
            log.warning("database_back")

    def _commit_together(self, batch: Sequence[_Write]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.begin())
            except DBAPIError as err:
                raise _NobodyCanWriteError from err
            hints = Hints() if self._telling else None
            transaction = TableTransaction(connection, self._pulses, self._points, hints)
            for work, writes in _grouped(batch):
                results = work(transaction, [write.item for write in writes])
                outcomes += [_Outcome(write, result) for write, result in zip(writes, results, strict=True)]
            if self._telling is not None and hints is not None:
                for payload in self._telling.payloads(hints):
                    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        transaction.keep()
        return outcomes

    def _answer(self, outcomes: Sequence[_Outcome]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(_tell, outcomes)


def _grouped(batch: Sequence[_Write]) -> Iterable[tuple[GroupedWork, list[_Write]]]:
    groups: dict[GroupedWork, list[_Write]] = {}
    for write in batch:
        groups.setdefault(write.work, []).append(write)
    return groups.items()


def _tell(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        try:
            outcome.write.told(outcome.result, outcome.error)
        except Exception:  # one listener's defect must not silence its neighbours
            log.exception("answer_failed")


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _public_error(err: Exception) -> Exception:
    if isinstance(err, Reco3Error) or not isinstance(err, DBAPIError):
        return err
    log.error("write_failed", exc_info=err)
    return _busy()


def _busy() -> Busy:
    return Busy("The database cannot write now; nothing was stored. Send this again in a moment.", retry_after_s=5)
