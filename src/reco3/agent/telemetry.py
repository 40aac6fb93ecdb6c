"""The thread that tells the server how the PC is: collect → spool → send.

It refuses to look at commands, so that a command that takes a minute never stops a heartbeat.
"""

import contextlib
import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from reco3.agent.config import AgentConfig
from reco3.agent.contacts import Contact, delay_after_s
from reco3.agent.http_client import Backoff, ContactError, HttpClient, RefusedError
from reco3.agent.journal import Journal, JournalError
from reco3.agent.log_file import log_event, log_traceback
from reco3.agent.logs_tail import LogTail
from reco3.agent.metrics import Sampler, WatchedName
from reco3.agent.modes import Modes
from reco3.agent.spool import Batch, Spool, SpoolTooNewError
from reco3.protocol.limits import HEARTBEAT_PERIOD_S
from reco3.protocol.messages import Heartbeat, LogBatch, LogEntry

LINES_PER_BATCH = 100
BATCHES_IN_A_ROW = 50
MAX_SPOOL_BYTES = 64 * 1024 * 1024
MODE_LOOK_PERIOD_S = 2.0
UNEXPECTED_DELAY_S = 5.0
_UNACCEPTABLE = (400, 413, 422)


class Telemetry:
    """Heartbeats and log lines, each at its own period and with its own back-off."""

    def __init__(
        self, config: AgentConfig, *, client: HttpClient, contact: Contact, modes: Modes, journal: Journal
    ) -> None:
        self._config = config
        self._client = client
        self._contact = contact
        self._modes = modes
        self._journal = journal
        self._incidents: queue.SimpleQueue[LogEntry] = queue.SimpleQueue()
        self._sampler = Sampler(
            [WatchedName(program.name, program.allow_restart) for program in config.watch.processes]
        )
        self._logs: _LogPipe | None = None
        self._trouble = ""
        self._wake = threading.Event()
        self._is_stopping = False
        self._heartbeat = _Schedule(config.intervals.heartbeat_s, is_jittered=True)
        self._sending = _Schedule(config.intervals.logs_s)
        self._mode_look = _Schedule(MODE_LOOK_PERIOD_S)

    def announce(self) -> None:
        """Send a heartbeat now, because what it tells has changed; called from either thread."""
        self._heartbeat.hasten()
        self._wake.set()

    def report_incident(self, entry: LogEntry) -> None:
        """Send a log line of the agent's own, as durably as those of the watched files; called from either thread."""
        self._incidents.put(entry)
        self._sending.hasten()
        self._wake.set()

    def stop(self) -> None:
        """Make the thread send what it has and end."""
        self._is_stopping = True
        self._wake.set()

    def break_off(self) -> None:
        """Give up the request that is going on: the server has had its time."""
        self._client.interrupt()

    def run(self) -> None:
        """Do one turn after another until stopped, then collect and send for the last time."""
        # Before the first heartbeat: who sees the PC online may count on its log files being followed from then on.
        self._guarded(self._collect)
        self._sending.hasten()
        while not self._is_stopping:
            self._guarded(self._turn)
            self._wake.wait(self._idle_s())
            self._wake.clear()
        self._guarded(self._last_turn)
        if self._logs:
            self._logs.close()
        self._client.close()

    def _guarded(self, turn: Callable[[], None]) -> None:
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - the loop turn: whatever went wrong, monitoring goes on
            log_traceback("telemetry_failed", error)
            for schedule in (self._heartbeat, self._sending, self._mode_look):
                schedule.postpone(UNEXPECTED_DELAY_S)

    def _turn(self) -> None:
        if self._mode_look.is_due():
            self._modes.refresh()
            self._mode_look.done()
        if self._heartbeat.is_due():
            self._send_heartbeat()
        if self._sending.is_due():
            self._collect()
            self._send_logs()

    def _last_turn(self) -> None:
        self._collect()
        self._send_logs()
        self._send_heartbeat()

    def _idle_s(self) -> float:
        return min(schedule.remaining_s() for schedule in (self._heartbeat, self._sending, self._mode_look))

    def _send_heartbeat(self) -> None:
        self._heartbeat.done()
        metrics = self._sampler.sample(mode=self._modes.current, apply_enabled=self._config.control.apply_enabled)
        metrics = replace(metrics, journal=self._journal_epoch(), veto_s=self._config.control.veto_s)
        heartbeat = Heartbeat(metrics, self._config.platform, self._config.version)
        try:
            self._contact.ask("heartbeat", lambda: self._client.heartbeat(heartbeat))
        except ContactError as error:
            self._heartbeat.failed(error)

    def _journal_epoch(self) -> str | None:
        try:
            return self._journal.epoch()
        except JournalError:
            return None

    def _collect(self) -> None:
        self._sending.done()
        try:
            if self._logs is None:
                self._logs = _LogPipe.open(self._config)
            self._spool_incidents(self._logs.spool)
            self._logs.tail.collect()
        except (OSError, sqlite3.Error, SpoolTooNewError) as error:
            self._note_uncollected(str(error))
        else:
            self._note_uncollected("")

    def _spool_incidents(self, spool: Spool) -> None:
        """Raises: sqlite3.Error, when the one at hand is kept for the next time."""
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._incidents.get_nowait()
                try:
                    spool.append([entry], {})
                except sqlite3.Error:
                    self._incidents.put(entry)
                    raise

    def _note_uncollected(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log_event("logs_not_collected", logging.ERROR, error=trouble)
        else:
            log_event("logs_collected_again")

    def _send_logs(self) -> None:
        """Send batch after batch until nothing is left, something fails, or a heartbeat is due."""
        for _ in range(BATCHES_IN_A_ROW):
            batch = self._logs.spool.next_batch(self._logs.lines_per_batch) if self._logs else None
            if batch is None or self._logs is None:
                return
            if not self._send_batch(batch, self._logs):
                return
            if self._heartbeat.is_due() and not self._is_stopping:
                break
        self._sending.hasten()

    def _send_batch(self, batch: Batch, logs: "_LogPipe") -> bool:
        message = LogBatch(list(batch.entries), batch.stream, batch.epoch, batch.first_seq)
        try:
            acked_seq = self._contact.ask("logs", lambda: self._client.send_logs(message, first_seq=batch.first_seq))
        except RefusedError as error:
            if error.status in _UNACCEPTABLE:
                return logs.give_way(batch, error)
            self._sending.failed(error)
            return False
        except ContactError as error:
            self._sending.failed(error)
            return False
        logs.lines_per_batch = LINES_PER_BATCH
        if acked_seq < batch.first_seq:
            return False
        logs.spool.ack(acked_seq)
        return True


class _Schedule:
    """When something is due next: at once, then every `period_s`, sooner but ever slower after a failure."""

    def __init__(self, period_s: float, *, is_jittered: bool = False) -> None:
        self._period_s = period_s
        self._is_jittered = is_jittered
        self._due_at = time.monotonic()
        self._backoff = Backoff(min(period_s, HEARTBEAT_PERIOD_S), random=random.random)
        self._has_failed = False

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_at

    def remaining_s(self) -> float:
        return max(0.0, self._due_at - time.monotonic())

    def hasten(self) -> None:
        self._due_at = time.monotonic()

    def postpone(self, delay_s: float) -> None:
        self._due_at = time.monotonic() + delay_s

    def done(self) -> None:
        """Begun now, so that the period is that between beginnings. A fleet's jitter only ever shortens it."""
        if not self._has_failed:
            self._backoff.reset()
        self._has_failed = False
        factor = random.uniform(0.95, 1.0) if self._is_jittered else 1.0  # noqa: S311 - spreads load, guards nothing
        self.postpone(self._period_s * factor)

    def failed(self, error: ContactError) -> None:
        self._has_failed = True
        self.postpone(delay_after_s(error, self._backoff))


@dataclass(slots=True)
class _LogPipe:
    """The tail of the watched files, the spool it fills, and how much of that goes into one batch."""

    spool: Spool
    tail: LogTail
    lines_per_batch: int = LINES_PER_BATCH

    @classmethod
    def open(cls, config: AgentConfig) -> "_LogPipe":
        spool = Spool(config.state_dir / "spool.db", max_bytes=MAX_SPOOL_BYTES)
        return cls(spool, LogTail(config.watch.log_files, spool))

    def give_way(self, batch: Batch, error: RefusedError) -> bool:
        """Find the line that the server will not take, by halves, and leave it out: it must not hold up the others."""
        if len(batch.entries) > 1:
            self.lines_per_batch = len(batch.entries) // 2
            return True
        log_event("log_line_dropped", logging.WARNING, seq=batch.first_seq, error=error, line=batch.entries[0].msg)
        self.spool.ack(batch.first_seq)
        return True

    def close(self) -> None:
        self.tail.close()
        self.spool.close()
