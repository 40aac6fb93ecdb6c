"""The thread that tells the server how the PC is: heartbeats, and log lines from the files into the spool.

It refuses to look at commands and to wait for the answer to a batch of log lines, so that neither a command that takes
a minute nor a long drain ever stops a heartbeat.
"""

import contextlib
import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from reco3.agent import signers
from reco3.agent.config import AgentConfig, ControlConfig
from reco3.agent.contacts import Contact, delay_after_s
from reco3.agent.http_client import Backoff, ContactError, HttpClient
from reco3.agent.journal import Journal, JournalError
from reco3.agent.log_file import log_event, log_traceback
from reco3.agent.log_sending import LogSender
from reco3.agent.logs_tail import LogTail
from reco3.agent.metrics import Sampler, Sighting, WatchedName
from reco3.agent.modes import Modes
from reco3.agent.spool import Spool, SpoolTooNewError
from reco3.protocol.limits import HEARTBEAT_PERIOD_S
from reco3.protocol.messages import Heartbeat, LogEntry

MAX_SPOOL_BYTES = 256 * 1024 * 1024
SPOOL_FILE = "spool.db"
MODE_LOOK_PERIOD_S = 2.0
UNEXPECTED_DELAY_S = 5.0
SPOOL_TROUBLE_DELAY_S = 5.0
FLUSH_WITHIN_S = 4.0


class Telemetry:
    """Heartbeats and log lines, each at its own period and with its own back-off."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        client: HttpClient,
        log_client: HttpClient,
        contact: Contact,
        modes: Modes,
        journal: Journal,
    ) -> None:
        self._config = config
        self._client = client
        self._contact = contact
        self._modes = modes
        self._journal = journal
        self._incidents: queue.SimpleQueue[tuple[LogEntry, Callable[[], None]]] = queue.SimpleQueue()
        self._sampler = Sampler(
            [WatchedName(program.name, program.allow_restart) for program in config.watch.processes]
        )
        self._logs: _LogPipe | None = None
        self._trouble = ""
        self._wake = threading.Event()
        self._is_stopping = False
        self._heartbeat = _Schedule(config.intervals.heartbeat_s, is_jittered=True)
        self._collecting = _Schedule(config.intervals.logs_s)
        self._sender = LogSender(log_client, contact, when_answered=self._wake.set)
        self._mode_look = _Schedule(MODE_LOOK_PERIOD_S)
        self._started_ms = round(time.time() * 1000)
        self._trust = _Trust.of(config.control)
        self._look_for_commands: Callable[[], None] = lambda: None
        self._look_for_trust: Callable[[int], None] = lambda _revision: None

    def when_commands_wait(self, call: Callable[[], None]) -> None:
        """Have `call` called from this thread whenever the server says that commands may wait for this PC."""
        self._look_for_commands = call

    def when_trust_changes(self, call: Callable[[int], None]) -> None:
        """Have `call` called from this thread with the revision of the changes of trust that the server relays."""
        self._look_for_trust = call

    def tell_trust(self, control: ControlConfig) -> None:
        """Tell from now on of other keys that this PC trusts; called from another thread."""
        self._trust = _Trust.of(control)
        self.announce()

    def known_processes(self, name: str) -> Sequence[Sighting]:
        """Which processes of a watched name the last heartbeat told of; called from either thread."""
        return self._sampler.known(name)

    def announce(self) -> None:
        """Send a heartbeat now, because what it tells has changed; called from either thread."""
        self._heartbeat.hasten()
        self._wake.set()

    def report_incident(self, entry: LogEntry, when_kept: Callable[[], None]) -> None:
        """Send a log line of the agent's own, as durably as those of the watched files; called from either thread.

        `when_kept` is called from this thread once the line survives a crash.
        """
        self._incidents.put((entry, when_kept))
        self._collecting.hasten()
        self._wake.set()

    def stop(self) -> None:
        """Make the thread send what it has and end."""
        self._is_stopping = True
        self._wake.set()

    def break_off(self) -> None:
        """Give up the request that is going on: the server has had its time."""
        self._client.interrupt()
        self._sender.interrupt()

    def run(self) -> None:
        """Do one turn after another until stopped, then collect and send for the last time."""
        # Before the first heartbeat: who sees the PC online may count on its log files being followed from then on.
        self._guarded(self._collect)
        while not self._is_stopping:
            self._guarded(self._turn)
            self._wake.wait(self._idle_s())
            self._wake.clear()
        self._guarded(self._last_turn)
        self._sender.close()
        if self._logs:
            self._logs.close()
        self._client.close()

    def _guarded(self, turn: Callable[[], None]) -> None:
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - the loop turn: whatever went wrong, monitoring goes on
            log_traceback("telemetry_failed", error)
            for schedule in (self._heartbeat, self._collecting, self._mode_look):
                schedule.postpone(UNEXPECTED_DELAY_S)

    def _turn(self) -> None:
        if self._mode_look.is_due():
            self._modes.refresh()
            self._look_for_broken_glass()
            self._mode_look.done()
        if self._heartbeat.is_due():
            self._send_heartbeat()
        if self._collecting.is_due():
            self._collect()
        self._send_logs()

    def _look_for_broken_glass(self) -> None:
        """Somebody at the PC may have handed a command over by its journal."""
        if not self._config.control.approvers:
            return
        with contextlib.suppress(JournalError):
            if self._journal.has_handed_over():
                self._look_for_commands()

    def _last_turn(self) -> None:
        self._send_heartbeat()
        self._collect()
        if self._logs:
            self._sender.flush(self._logs.spool, until_s=time.monotonic() + FLUSH_WITHIN_S)

    def _idle_s(self) -> float:
        schedules = (self._heartbeat, self._collecting, self._mode_look)
        return min(self._sender.remaining_s(), *(schedule.remaining_s() for schedule in schedules))

    def _send_heartbeat(self) -> None:
        self._heartbeat.done()
        metrics = self._sampler.sample(mode=self._modes.current, apply_enabled=self._config.control.apply_enabled)
        trust = self._trust
        metrics = replace(
            metrics,
            journal=self._journal_epoch(),
            veto_s=self._config.control.veto_s,
            agent_started_ms=self._started_ms,
            approvers_pinned=trust.pinned,
            approvals_required=trust.approvals_required,
            trust_version=trust.version,
        )
        heartbeat = Heartbeat(metrics, self._config.platform, self._config.version)
        try:
            heard = self._contact.ask("heartbeat", lambda: self._client.heartbeat(heartbeat))
        except ContactError as error:
            self._heartbeat.failed(error)
            self._note_heartbeat(is_answered=False)
        else:
            self._note_heartbeat(is_answered=True)
            if heard.are_commands_waiting:
                self._look_for_commands()
            if trust.pinned:
                self._look_for_trust(heard.trust_revision)

    def _note_heartbeat(self, *, is_answered: bool) -> None:
        with self._spool_in_use():
            self._sender.note_heartbeat(self._logs.spool if self._logs else None, is_answered=is_answered)

    def _journal_epoch(self) -> str | None:
        try:
            return self._journal.epoch()
        except JournalError:
            return None

    def _collect(self) -> None:
        self._collecting.done()
        began_s = time.thread_time()
        with self._spool_in_use():
            if self._logs is None:
                self._logs = _LogPipe.open(self._config)
            self._spool_incidents(self._logs.spool)
            self._logs.tail.collect()
            if self._logs.tail.is_behind:
                # Half as long a pause as it took of the processor: a storm of lines may not cost a whole core.
                self._collecting.postpone((time.thread_time() - began_s) / 2)
            self._note_uncollected("")

    @contextlib.contextmanager
    def _spool_in_use(self) -> Iterator[None]:
        """Outlive a spool that cannot be used now: the lines stay in their files, and heartbeats go on."""
        try:
            yield
        except (OSError, sqlite3.Error, SpoolTooNewError) as error:
            self._note_uncollected(str(error))
            self._sender.postpone(SPOOL_TROUBLE_DELAY_S)

    def _spool_incidents(self, spool: Spool) -> None:
        """Raises: sqlite3.Error, when the one at hand is kept for the next time."""
        with contextlib.suppress(queue.Empty):
            while True:
                entry, when_kept = self._incidents.get_nowait()
                try:
                    spool.append([entry], {})
                except sqlite3.Error:
                    self._incidents.put((entry, when_kept))
                    raise
                with contextlib.suppress(JournalError):  # Then it is told once more by the next run of the agent.
                    when_kept()

    def _note_uncollected(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log_event("logs_not_collected", logging.ERROR, error=trouble)
        else:
            log_event("logs_collected_again")

    def _send_logs(self) -> None:
        if self._logs is not None:
            with self._spool_in_use():
                self._sender.turn(self._logs.spool)


@dataclass(frozen=True, slots=True)
class _Trust:
    """What heartbeats tell of the keys that this PC trusts."""

    pinned: int
    approvals_required: int
    version: str | None

    @classmethod
    def of(cls, control: ControlConfig) -> "_Trust":
        return cls(len(control.approvers), control.approvals_required, signers.trust_version_of(control))


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


@dataclass(frozen=True, slots=True)
class _LogPipe:
    """The tail of the watched files, and the spool it fills."""

    spool: Spool
    tail: LogTail

    @classmethod
    def open(cls, config: AgentConfig) -> "_LogPipe":
        spool = Spool(config.state_dir / SPOOL_FILE, max_bytes=MAX_SPOOL_BYTES)
        return cls(spool, LogTail(config.watch.log_files, spool))

    def close(self) -> None:
        self.tail.close()
        self.spool.close()
