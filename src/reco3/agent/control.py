"""The thread that does what the server asks, when the PC allows it: pull → decide → journal → act → report.

It refuses to begin anything that the journal does not hold, and to begin anything twice.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from reco3.agent import commands, security
from reco3.agent.config import AgentConfig
from reco3.agent.contacts import Contact, delay_after_s
from reco3.agent.http_client import Backoff, ContactError, HttpClient, RefusedError
from reco3.agent.journal import Delivery, Ending, Entry, Journal, JournalError, Received, State
from reco3.agent.log_file import log_event, log_traceback
from reco3.agent.modes import Modes
from reco3.agent.security import Allowed, NotifyOps, Order, Refused
from reco3.protocol.commands import Mode, Strength
from reco3.protocol.limits import PULL_PERIOD_S
from reco3.protocol.messages import CommandReport

HOLD_S = 25
QUICK_ANSWER_S = 1.0
QUICK_ANSWERS_UNTIL_POLLING = 3
HOLD_AGAIN_AFTER_S = 60.0
RUNNING_REPORT_TIMEOUT_S = 2.0
UNEXPECTED_DELAY_S = 5.0
MAX_UNRECORDED = 100
HTTP_BAD_REQUEST = 400
_TEMPORARY = (401, 408, 425, 429)


class PullRhythm:
    """When to ask next, and whether the server may hold the question open.

    A server that does not know `wait` answers at once with nothing; after a few of these it is asked every `period_s`,
    and from time to time whether it has learnt to wait.
    """

    def __init__(self, period_s: float, *, random: Callable[[], float]) -> None:
        self._period_s = period_s
        self._random = random
        self._quick_answers = 0
        self._hold_again_at = -math.inf

    def may_hold(self, now: float) -> bool:
        """Whether to ask with `wait`."""
        return now >= self._hold_again_at

    def pause_s(self, now: float, *, was_held: bool, took_s: float, has_news: bool) -> float:
        """How long to wait before the next pull, given how the last one went."""
        if not was_held:
            return self._polling_pause_s()
        if has_news or took_s >= QUICK_ANSWER_S:
            self._quick_answers = 0
            return 0.0
        self._quick_answers += 1
        if self._quick_answers < QUICK_ANSWERS_UNTIL_POLLING:
            return 0.0
        return self.stop_holding(now)

    def stop_holding(self, now: float) -> float:
        """Ask without `wait` for a while; returns how long to wait before the next pull."""
        self._quick_answers = QUICK_ANSWERS_UNTIL_POLLING - 1
        self._hold_again_at = now + HOLD_AGAIN_AFTER_S
        return self._polling_pause_s()

    def _polling_pause_s(self) -> float:
        return self._period_s * (0.95 + self._random() * 0.05)


class Control:
    """Takes commands and answers for them."""

    def __init__(
        self, config: AgentConfig, *, client: HttpClient, contact: Contact, modes: Modes, journal: Journal
    ) -> None:
        self._config = config
        self._client = client
        self._contact = contact
        self._modes = modes
        self._journal = journal
        self._stop = threading.Event()
        self._programs = {program.name: program for program in config.watch.processes}
        self._rhythm = PullRhythm(config.intervals.pull_s, random=random.random)
        self._pull_backoff = Backoff(min(config.intervals.pull_s, PULL_PERIOD_S), random=random.random)
        self._report_backoff = Backoff(PULL_PERIOD_S, random=random.random)
        self._reports_due_at: float | None = time.monotonic()
        self._has_open = True
        self._is_unwritable = False
        self._unrecorded: dict[str, CommandReport] = {}

    def stop(self) -> None:
        """Make the thread end: nothing new is begun, what is over is reported."""
        self._stop.set()
        self._client.interrupt()

    def run(self) -> None:
        """Do one turn after another until stopped, then report what is owed for the last time."""
        while not self._stop.is_set():
            self._guarded(self._turn)
        self._guarded(self._send_owed)
        self._client.close()

    def _guarded(self, turn: Callable[[], None]) -> None:
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - the loop turn: whatever went wrong, the next command is taken
            log_traceback("control_failed", error)
            self._has_open = True
            self._stop.wait(UNEXPECTED_DELAY_S)

    def _turn(self) -> None:
        if self._has_open:
            self._end_open()
        if self._reports_due_at is not None and time.monotonic() >= self._reports_due_at:
            self._send_owed()
        began_at, wait_s = time.monotonic(), self._wait_s()
        try:
            raw_orders = self._contact.ask("pull", lambda: self._client.pull(wait_s=wait_s))
        except ContactError as error:
            if not self._stop.is_set():
                self._stop.wait(self._pause_after_failure_s(error, was_held=wait_s > 0))
            return
        took_s = time.monotonic() - began_at
        self._pull_backoff.reset()
        has_news = self._take_all([order for raw in raw_orders if (order := _read(raw))])
        self._stop.wait(self._rhythm.pause_s(time.monotonic(), was_held=wait_s > 0, took_s=took_s, has_news=has_news))

    def _end_open(self) -> None:
        """Answer for commands that a crash left open: none of them is begun, or begun again."""
        try:
            entries = self._journal.end_interrupted(self._ending_of)
        except JournalError as error:
            self._note_unwritable(error)
            return
        self._has_open = False
        if self._is_unwritable:
            self._is_unwritable = False
            log_event("journal_writable")
        for entry in entries:
            log_event("command_interrupted", logging.WARNING, command_id=entry.command_id, state=entry.state)
        self._owe_reports()

    def _ending_of(self, entry: Entry) -> Ending:
        known = self._unrecorded.get(entry.command_id)
        if known is None:
            return _interrupted(entry)
        return Ending(is_success=known.status == "completed", result=known.result)

    def _note_unwritable(self, error: JournalError) -> None:
        self._has_open = True
        if not self._is_unwritable:
            self._is_unwritable = True
            log_event("journal_unwritable", logging.ERROR, error=error)

    def _wait_s(self) -> int:
        if not self._rhythm.may_hold(time.monotonic()):
            return 0
        if self._reports_due_at is None:
            return HOLD_S
        return max(2, min(HOLD_S, math.ceil(self._reports_due_at - time.monotonic())))

    def _pause_after_failure_s(self, error: ContactError, *, was_held: bool) -> float:
        if was_held and isinstance(error, RefusedError) and error.status == HTTP_BAD_REQUEST:
            self._rhythm.stop_holding(time.monotonic())
            return 0.0
        return delay_after_s(error, self._pull_backoff)

    def _take_all(self, orders: list[Order]) -> bool:
        """Record all, then deal with each; returns whether any of them was new."""
        try:
            if orders:
                self._journal.receive([_received(order) for order in orders])
        except JournalError as error:
            self._note_unwritable(error)
            return True in [self._take_unrecorded(order) for order in orders]
        return True in [self._take(order) for order in orders]

    def _take(self, order: Order) -> bool:
        if order.id in self._unrecorded:
            return self._take_unrecorded(order)
        try:
            return self._take_recorded(order)
        except JournalError as error:
            self._note_unwritable(error)
            return self._take_unrecorded(order)

    def _take_recorded(self, order: Order) -> bool:
        """Raises: JournalError, when nothing has been begun."""
        entry = self._journal.find(order.id)
        if entry is None or entry.state is not State.RECEIVED:
            self._answer_again(order.id, entry)
            return False
        if self._stop.is_set():
            self._finish(order, _not_begun())
            return True
        self._modes.refresh()
        decision = security.decide(order, self._policy())
        if isinstance(decision, Refused):
            self._refuse(order, decision)
        else:
            self._act(order, decision)
        return True

    def _policy(self) -> security.Policy:
        config = self._config
        return security.Policy(config.agent_id, self._modes.current, config.control, self._programs, str(config.path))

    def _refuse(self, order: Order, refusal: Refused) -> None:
        log_event(
            "command_refused",
            logging.WARNING,
            command_id=order.id,
            type=order.type,
            code=refusal.code,
            reason=refusal.reason,
        )
        self._finish(order, commands.failed(refusal.code, refusal.reason))

    def _act(self, order: Order, allowed: Allowed) -> None:
        self._journal.start(order.id)
        log_event("command_started", command_id=order.id, type=order.type)
        if allowed.strength is Strength.STRONG:
            self._report_running(order.id)
        try:
            ending = commands.carry_out(allowed.action, self._job(order))
        except JournalError as error:
            ending = _unrecordable(error)
        _log_ending(order, ending)
        self._finish(order, ending)

    def _job(self, order: Order) -> commands.Job:
        now_utc = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return commands.Job(order.id, now_utc, self._config.control, self._journal)

    def _finish(self, order: Order, ending: Ending) -> None:
        try:
            self._journal.finish(order.id, ending)
        except JournalError as error:
            self._note_unwritable(error)
            self._report_unrecorded(order.id, ending if ending.new_mode is None else _unrecordable(error))
            return
        if ending.new_mode is not None:
            self._modes.adopt(ending.new_mode.mode)
        self._owe_reports()
        self._send_owed()

    def _take_unrecorded(self, order: Order) -> bool:
        """Without the journal only a notice is safe: should it come again, it is only written once more."""
        known = self._unrecorded.get(order.id)
        if known is not None:
            self._send_unrecorded(known)
            return False
        policy = self._policy()
        if policy.mode is Mode.SAFE:
            # Perhaps only because the journal could not tell; nothing that SAFE refuses is begun here anyway.
            policy = replace(policy, mode=Mode.NORMAL)
        decision = security.decide(order, policy)
        if isinstance(decision, Refused):
            ending = commands.failed(decision.code, decision.reason)
        elif isinstance(decision.action, NotifyOps):
            ending = commands.carry_out(decision.action, self._job(order))
        else:
            ending = commands.failed(
                "journal_unwritable",
                f"the agent's journal in {self._config.state_dir} cannot be written, and nothing that cannot be "
                "recorded is begun; see the agent's log, make room or mend the file",
            )
        _log_ending(order, ending)
        self._report_unrecorded(order.id, ending)
        return True

    def _report_unrecorded(self, command_id: str, ending: Ending) -> None:
        report = CommandReport(command_id, "completed" if ending.is_success else "failed", ending.result)
        if len(self._unrecorded) >= MAX_UNRECORDED:
            self._unrecorded.pop(next(iter(self._unrecorded)))
        self._unrecorded[command_id] = report
        self._send_unrecorded(report)

    def _send_unrecorded(self, report: CommandReport) -> None:
        try:
            self._contact.ask("report", lambda: self._client.report(report))
        except ContactError as error:
            log_event("report_lost", logging.WARNING, command_id=report.command_id, error=error)

    def _answer_again(self, command_id: str, entry: Entry | None) -> None:
        """A command that comes again is a question: what became of it?"""
        log_event("command_redelivered", command_id=command_id, state=entry.state if entry else "unknown")
        if entry is None or entry.result is None:
            self._has_open = True  # A crash left it open, and the next turn answers for it.
            return
        try:
            self._journal.set_delivery(command_id, Delivery.OWED)
        except JournalError as error:
            self._note_unwritable(error)
            self._send_unrecorded(_report(entry))
            return
        self._owe_reports()
        self._send_owed()

    def _report_running(self, command_id: str) -> None:
        """A courtesy: the command runs whether or not this arrives, and servers of the first protocol refuse it."""
        try:
            self._client.report(CommandReport(command_id, "running"), timeout_s=RUNNING_REPORT_TIMEOUT_S)
        except ContactError as error:
            log_event("running_not_reported", logging.DEBUG, command_id=command_id, error=error)

    def _owe_reports(self) -> None:
        self._report_backoff.reset()
        self._reports_due_at = time.monotonic()

    def _send_owed(self) -> None:
        try:
            for entry in self._journal.owed_reports():
                self._send_report(entry)
        except ContactError as error:
            self._reports_due_at = time.monotonic() + delay_after_s(error, self._report_backoff)
        except JournalError as error:
            self._note_unwritable(error)
            self._reports_due_at = time.monotonic() + self._report_backoff.next_delay_s()
        else:
            self._reports_due_at = None

    def _send_report(self, entry: Entry) -> None:
        report = _report(entry)
        delivery = Delivery.ACKNOWLEDGED
        try:
            self._contact.ask("report", lambda: self._client.report(report))
        except RefusedError as error:
            if error.status in _TEMPORARY or not 400 <= error.status < 500:  # noqa: PLR2004 - HTTP's client errors
                raise
            # The server knows no such command, or will never take this report: asking again changes nothing.
            log_event("report_parked", logging.WARNING, command_id=entry.command_id, error=error)
            delivery = Delivery.PARKED
        self._journal.set_delivery(entry.command_id, delivery)


def _report(entry: Entry) -> CommandReport:
    return CommandReport(entry.command_id, "completed" if entry.state is State.DONE else "failed", entry.result or {})


def _read(raw: object) -> Order | None:
    order = security.read_order(raw)
    if order is None:
        log_event("order_without_id", logging.WARNING)
    return order


def _received(order: Order) -> Received:
    payload = order.payload_json if isinstance(order.payload_json, str) else ""
    return Received(order.id, str(order.type)[:64], payload[:8192])


def _log_ending(order: Order, ending: Ending) -> None:
    if ending.is_success:
        log_event("command_completed", command_id=order.id, type=order.type)
        return
    code, error = ending.result["code"], ending.result["error"]
    log_event("command_failed", logging.WARNING, command_id=order.id, type=order.type, code=code, error=error)


def _interrupted(entry: Entry) -> Ending:
    if entry.state is State.RECEIVED:
        return _not_begun()
    return commands.failed(
        "interrupted",
        "the agent stopped while it carried this out; it is unknown whether it took effect, and it will not be run "
        "again: look at the PC, then request it anew if it is still wanted",
    )


def _not_begun() -> Ending:
    return commands.failed(
        "not_begun", "the agent stopped before it began; nothing was done: request it anew if it is still wanted"
    )


def _unrecordable(error: JournalError) -> Ending:
    return commands.failed("journal_unwritable", f"nothing was changed: the agent's journal cannot be written: {error}")
