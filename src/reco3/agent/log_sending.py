"""Sends what the spool holds: one batch at a time, on a connection and a thread of its own.

It refuses to hold anybody up: heartbeats go on while the server thinks about a batch, and a line that the server will
never take is set aside so that the others pass.
"""

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from reco3.agent.contacts import Contact
from reco3.agent.http_client import HTTP_UNAUTHORIZED, MAX_RETRY_AFTER_S, ContactError, HttpClient, RefusedError
from reco3.agent.log_file import log_event
from reco3.agent.spool import Batch, Spool
from reco3.protocol.limits import MAX_LOG_ENTRIES_PER_BATCH
from reco3.protocol.messages import LogEntry

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0
JITTER = 0.2
UNAUTHORIZED_DELAY_S = 60.0
LARGE_BACKLOG_LINES = 500
SPREAD_AFTER_OUTAGE_S = 30.0
# After an outage everybody comes back at once: for a minute a PC takes no more than a small share of the server.
PACED_GAP_S = 0.25
PACED_FOR_S = 60.0
_TOO_LARGE = 413
_UNACCEPTABLE = (400, 422)
_LINES_REGAINED = 10


# Gives a number from a range.
Uniform = Callable[[float, float], float]


class LogBackoff:
    """How long to wait after the n-th failure in a row: 1, 2, 4 s and so on up to five minutes, give or take a fifth.

    A server that names its own delay is obeyed, give or take a fifth likewise.
    """

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def next_delay_s(self, retry_after_s: float | None = None) -> float:
        """Count one more failure and say how long to wait."""
        own_s = min(FIRST_DELAY_S * 2 ** min(self._failures, 16), LONGEST_DELAY_S)
        self._failures += 1
        asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        return (asked_s or own_s) * self._uniform(1 - JITTER, 1 + JITTER)

    def reset(self) -> None:
        """Forget the failures, after a success."""
        self._failures = 0


class BatchSize:
    """How many lines the next batch takes, after what the server said of the last ones."""

    def __init__(self) -> None:
        self._most = MAX_LOG_ENTRIES_PER_BATCH
        self._suspected_through_seq = -1

    def lines(self, next_seq: int) -> int:
        """At most this many, when the next batch begins with `next_seq`."""
        suspected = self._suspected_through_seq - next_seq + 1
        return self._most if suspected <= 0 else min(self._most, max(1, suspected // 2))

    def was_too_large(self, count: int) -> None:
        """Halve: this many did not pass."""
        self._most = max(1, count // 2)

    def was_unacceptable(self, first_seq: int, count: int) -> None:
        """Look for the line at fault, by halves, among these."""
        self._suspected_through_seq = first_seq + count - 1

    def was_taken(self) -> None:
        """Grow again, carefully."""
        self._most = min(MAX_LOG_ENTRIES_PER_BATCH, self._most + _LINES_REGAINED)

    def forget_suspicion(self) -> None:
        """The line at fault is out of the way."""
        self._suspected_through_seq = -1


class LogSender:
    """Drains the spool; its methods are called from the telemetry thread alone, except `interrupt`."""

    def __init__(
        self,
        client: HttpClient,
        contact: Contact,
        *,
        when_answered: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        self._contact = contact
        self._monotonic = monotonic
        self._uniform = uniform
        self._courier = _Courier(client, when_answered)
        self._interrupt = client.interrupt
        self._backoff = LogBackoff(uniform)
        self._size = BatchSize()
        self._in_flight: Batch | None = None
        self._has_more = False
        self._was_empty = False
        self._not_before_s = 0.0
        self._paced_until_s = 0.0
        self._next_seq = 0
        self._is_cut_off = False
        self._is_heartbeat_lost = False

    def turn(self, spool: Spool) -> None:
        """Take the answer to the last batch, if it came, and send the next one, if it is time.

        Raises:
            sqlite3.Error: the spool cannot be used now; nothing is lost.
        """
        if self._in_flight is not None and not self._settle(spool, self._in_flight):
            return
        self._has_more = True
        if self._monotonic() >= self._not_before_s:
            self._send_next(spool)

    def remaining_s(self) -> float:
        """How long until there is something to do here; infinite while an answer is awaited or nothing is spooled."""
        if self._in_flight is not None or not self._has_more:
            return math.inf
        return max(0.0, self._not_before_s - self._monotonic())

    def postpone(self, delay_s: float) -> None:
        """Send nothing for a while: the spool is in trouble."""
        self._not_before_s = self._monotonic() + delay_s

    def note_heartbeat(self, spool: Spool | None, *, is_answered: bool) -> None:
        """Learn from the heartbeats when an outage ends, so that the logs need not find out for themselves."""
        was_lost, self._is_heartbeat_lost = self._is_heartbeat_lost, not is_answered
        if not (was_lost and is_answered and self._is_cut_off and spool is not None):
            return
        self._not_before_s = self._monotonic()
        if self._begin_drain(spool):
            self._not_before_s += self._uniform(0.0, SPREAD_AFTER_OUTAGE_S)

    def flush(self, spool: Spool, *, until_s: float) -> None:
        """Send what there is without waiting for anything but answers, until something fails or time is up."""
        self._not_before_s = self._paced_until_s = 0.0
        self.turn(spool)
        while self._in_flight is not None and self._monotonic() < until_s:
            self._courier.wait(max(0.0, until_s - self._monotonic()))
            self.turn(spool)

    def interrupt(self) -> None:
        """Break off the request that is going on, from any thread."""
        self._interrupt()

    def close(self) -> None:
        """Let go of the thread and its connection."""
        self._courier.dismiss()

    def _send_next(self, spool: Spool) -> None:
        batch = spool.next_batch(self._size.lines(self._next_seq))
        self._has_more = batch is not None
        self._in_flight = batch
        if batch is None:
            # Twice in a row, so that who sends all the time keeps the connection.
            if self._was_empty:
                self._courier.dismiss()
            self._was_empty = True
            return
        self._was_empty = False
        self._next_seq = batch.first_seq
        self._courier.carry(batch)

    def _settle(self, spool: Spool, batch: Batch) -> bool:
        """Act on the answer to `batch`; says whether one came."""
        outcome = self._courier.outcome()
        if outcome is None:
            return False
        self._in_flight = None
        try:
            acked_seq = self._contact.ask("logs", outcome.answer)
        except RefusedError as error:
            self._make_way(spool, batch, error)
        except ContactError as error:
            self._note_failed(error)
        else:
            self._note_taken(spool, batch, acked_seq)
        return True

    def _note_taken(self, spool: Spool, batch: Batch, acked_seq: int) -> None:
        if acked_seq < batch.first_seq:
            self._not_before_s = self._monotonic() + self._backoff.next_delay_s()
            return
        if self._is_cut_off:
            self._begin_drain(spool)
        self._backoff.reset()
        self._size.was_taken()
        spool.ack(acked_seq)
        self._next_seq = acked_seq + 1
        now_s = self._monotonic()
        self._not_before_s = now_s + (PACED_GAP_S if now_s < self._paced_until_s else 0.0)

    def _begin_drain(self, spool: Spool) -> bool:
        """Say whether so much waits after an outage that it must go slowly."""
        self._is_cut_off = False
        is_large = spool.has_more_than(LARGE_BACKLOG_LINES)
        self._paced_until_s = self._monotonic() + SPREAD_AFTER_OUTAGE_S + PACED_FOR_S if is_large else 0.0
        return is_large

    def _make_way(self, spool: Spool, batch: Batch, error: RefusedError) -> None:
        is_too_large, count = error.status == _TOO_LARGE, len(batch.bodies)
        if not is_too_large and error.status not in _UNACCEPTABLE:
            self._note_failed(error)
        elif count == 1:
            self._quarantine(spool, error)
        elif is_too_large:
            self._size.was_too_large(count)
        else:
            self._size.was_unacceptable(batch.first_seq, count)

    def _quarantine(self, spool: Spool, error: RefusedError) -> None:
        entry: LogEntry | None = spool.quarantine_oldest(str(error))
        self._size.forget_suspicion()
        event = "log_marker_dropped" if entry is None else "log_line_quarantined"
        log_event(event, logging.WARNING, seq=self._next_seq, error=error, line=entry.msg if entry else "")

    def _note_failed(self, error: ContactError) -> None:
        status, retry_after_s = None, None
        if isinstance(error, RefusedError):
            status, retry_after_s = error.status, error.retry_after_s
        delay_s = self._backoff.next_delay_s(retry_after_s)
        if status == HTTP_UNAUTHORIZED:
            delay_s = max(delay_s, UNAUTHORIZED_DELAY_S)
        self._is_cut_off = self._is_cut_off or status is None or status >= 500  # noqa: PLR2004 - HTTP's server errors
        self._not_before_s = self._monotonic() + delay_s


@dataclass(frozen=True, slots=True)
class _Outcome:
    acked_seq: int
    error: Exception | None

    def answer(self) -> int:
        """Give the highest number that the server holds. Raises: ContactError, as the request did."""
        if self.error is not None:
            raise self.error
        return self.acked_seq


class _Courier:
    """The thread that waits for the server; it and its connection live while there is something to carry."""

    def __init__(self, client: HttpClient, when_answered: Callable[[], None]) -> None:
        self._client = client
        self._when_answered = when_answered
        self._orders: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None

    def carry(self, batch: Batch) -> None:
        """Take a batch to the server; `when_answered` tells that its outcome can be asked for."""
        self._answered.clear()
        self._orders.put(batch)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
            self._thread.start()

    def outcome(self) -> _Outcome | None:
        """What became of the batch, once, or None while it is on its way."""
        try:
            return self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def wait(self, timeout_s: float) -> None:
        """Wait for the outcome."""
        self._answered.wait(timeout_s)

    def dismiss(self) -> None:
        """End the thread; another one is started when there is something to carry again."""
        if self._thread is not None:
            self._thread = None
            self._orders.put(None)

    def _run(self) -> None:
        while (batch := self._orders.get()) is not None:
            self._outcomes.put(self._carry(batch))
            self._answered.set()
            self._when_answered()
        self._client.close()

    def _carry(self, batch: Batch) -> _Outcome:
        try:
            acked_seq = self._client.send_logs(batch.to_json(), first_seq=batch.first_seq, count_sent=len(batch.bodies))
        except Exception as error:  # noqa: BLE001 - the loop turn of this thread; raised again in that of who asked
            return _Outcome(0, error)
        return _Outcome(acked_seq, None)
