"""The thread that does what the server asks, when the PC allows it: pull → decide → journal → act → report.

It refuses to begin anything that the journal does not hold, and to begin anything twice.
"""

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reco3.agent import commands, failpoints, lifecycle, probing, security, signers
from reco3.agent.budget import HOUR
from reco3.agent.clocks import as_text, read_clock
from reco3.agent.config import AgentConfig, ControlConfig
from reco3.agent.contacts import Contact, delay_after_s
from reco3.agent.http_client import Backoff, ContactError, HttpClient, Pulled, RefusedError
from reco3.agent.jobs import Job, failed
from reco3.agent.journal import Beginning, Ending, Journal, JournalError, Received
from reco3.agent.lifecycle import UNSTARTED, Act, Case, Entry, Event, Outcome, Probe, Refuse, Report, Verdict, Wait
from reco3.agent.log_file import log_event, log_traceback
from reco3.agent.metrics import Sighting
from reco3.agent.modes import Modes
from reco3.agent.refusals import Refused
from reco3.agent.reporting import Reports
from reco3.agent.security import Allowed, NotifyOps, Order
from reco3.protocol.commands import Mode, Severity, Strength
from reco3.protocol.limits import PULL_PERIOD_S
from reco3.protocol.messages import LogEntry

HOLD_S = 25
QUICK_ANSWER_S = 1.0
QUICK_ANSWERS_UNTIL_POLLING = 3
HOLD_AGAIN_AFTER_S = 60.0
SHORTEST_HOLD_S = 2.0
LOOK_AT_TRUST_AGAIN_S = 15.0
LOOK_AT_WAITING_S = 2.0
NOTE_CLOCK_EVERY_S = 300.0
UNEXPECTED_DELAY_S = 5.0
SKEW_TOLERANCE = timedelta(seconds=5)
LONGEST_LAG = timedelta(days=1)
BREAKER_CODE = "BREAKER_TRIPPED"
HTTP_BAD_REQUEST = 400


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
        self._leave_alone_until = -math.inf

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

    def leave_alone(self, now: float, asked_s: float) -> None:
        """Do not ask before that many seconds are over, give or take a fifth, so that not all PCs ask at once."""
        self._leave_alone_until = now + asked_s * (0.8 + self._random() * 0.4)

    def hurry(self) -> None:
        """Something waits for this PC after all."""
        self._leave_alone_until = -math.inf

    def left_alone_s(self, now: float) -> float:
        """For how long the server still wants not to be asked."""
        return max(0.0, self._leave_alone_until - now)

    def stop_holding(self, now: float) -> float:
        """Ask without `wait` for a while; returns how long to wait before the next pull."""
        self._quick_answers = QUICK_ANSWERS_UNTIL_POLLING - 1
        self._hold_again_at = now + HOLD_AGAIN_AFTER_S
        return self._polling_pause_s()

    def _polling_pause_s(self) -> float:
        return self._period_s * (0.95 + self._random() * 0.05)


@dataclass(frozen=True, slots=True)
class ControlParts:
    """What the thread works with.

    `report_incident` hands a log line to whoever sends them, who calls back once it is safely kept; `when_acted` is
    called after a strong command has acted; `known_processes` tells which processes of a name there were a moment ago.
    """

    client: HttpClient
    contact: Contact
    modes: Modes
    journal: Journal
    report_incident: Callable[[LogEntry, Callable[[], None]], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    when_acted: Callable[[], None] = lambda: None
    known_processes: Callable[[str], Sequence[Sighting]] = lambda _name: ()
    when_trust_changed: Callable[[ControlConfig], None] = lambda _control: None


class Control:
    """Takes commands and answers for them."""

    def __init__(self, config: AgentConfig, parts: ControlParts) -> None:
        self._config = config
        self._parts = parts
        self._journal = parts.journal
        self._is_stopping = False
        self._wake = threading.Event()
        self._programs = {program.name: program for program in config.watch.processes}
        self._rhythm = PullRhythm(config.intervals.pull_s, random=random.random)
        self._pull_backoff = Backoff(min(config.intervals.pull_s, PULL_PERIOD_S), random=random.random)
        self._verify = signers.verifier_of(config)
        self._reports = Reports(
            parts.client,
            contact=parts.contact,
            journal=parts.journal,
            when_unwritable=self._note_unwritable,
            tell_of_break_glass=self._tell_of_break_glass,
        )
        self._epoch: str | None = None
        self._has_open = True
        self._has_pulled = False
        self._is_unwritable = False
        self._unstarted: list[Entry] = []
        self._note_clock_at = 0.0
        self._trust_told = 0
        self._trust_looked_at = 0
        self._trust_due_at = 0.0

    def stop(self) -> None:
        """Make the thread end: nothing new is begun, what is over is reported."""
        self._is_stopping = True
        self._wake.set()
        self._parts.client.interrupt()

    def look_now(self) -> None:
        """Ask the server at once, because it says that something waits; called from another thread."""
        self._rhythm.hurry()
        self._wake.set()

    def look_at_trust(self, revision: int) -> None:
        """Note which changes of trust the server relays, to look at others than before; called from another thread."""
        self._trust_told = revision

    def foresee(self, entry: Entry) -> lifecycle.Step:
        """Say what would become of a command now, and do nothing. Raises: JournalError."""
        return lifecycle.next_step(Event.DUE, self._case(entry))

    def run(self) -> None:
        """Do one turn after another until stopped, then end what waits and report what is owed for the last time."""
        while not self._is_stopping:
            if self._has_open:
                self._guarded(self._recover_all)
            self._guarded(self._turn)
        self._guarded(self._end_waiting)
        self._guarded(self._reports.send_owed)
        self._parts.client.close()

    def _guarded(self, turn: Callable[[], None]) -> None:
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - the loop turn: whatever went wrong, the next command is taken
            log_traceback("control_failed", error)
            self._has_open = True
            self._idle(UNEXPECTED_DELAY_S)

    def _turn(self) -> None:
        self._note_clock()
        if self._reports.due_in_s <= 0:
            self._reports.send_owed()
        self._follow_trust()
        left_alone_s = self._rhythm.left_alone_s(time.monotonic())
        if left_alone_s > 0:
            self.look_at_waiting()
            self._pause(min(left_alone_s, self._reports.due_in_s))
            return
        self._pull()

    def _pull(self) -> None:
        began_at, wait_s = time.monotonic(), self._wait_s()
        try:
            pulled = self._parts.contact.ask(
                "pull", lambda: self._parts.client.pull(wait_s=wait_s, journal=self._epoch)
            )
        except ContactError as error:
            self.look_at_waiting()
            if not self._is_stopping:
                self._pause(self._pause_after_failure_s(error, was_held=wait_s > 0))
            return
        took_s = time.monotonic() - began_at
        self._pull_backoff.reset()
        self._has_pulled = True
        has_news = self._take_all(pulled)
        self.look_at_waiting()
        if pulled.poll_after_s is not None:
            self._rhythm.leave_alone(time.monotonic(), pulled.poll_after_s)
            return
        self._pause(self._pause_s(wait_s=wait_s, took_s=took_s, has_news=has_news))

    def _follow_trust(self) -> None:
        """Ask for changes of trust when the server relays others than before, and follow those that count here.

        This thread alone decides about commands, so none is ever judged by half of the old keys and half of the new.
        """
        told = self._trust_told
        if told == self._trust_looked_at or time.monotonic() < self._trust_due_at:
            return
        try:
            arrived = self._parts.contact.ask("trust changes", self._parts.client.trust_changes)
            clock = read_clock(self._parts.now(), self._journal.highest_clock())
        except (ContactError, JournalError):
            return  # Asked again in the next turn.
        from reco3.agent.kept_trust import follow_all  # noqa: PLC0415 - an idle agent must not carry cryptography

        config = follow_all(self._config, arrived, clock, self._parts.report_incident)
        # A server that has always something new may not keep this PC busy with signatures.
        self._trust_due_at = time.monotonic() + LOOK_AT_TRUST_AGAIN_S
        if config is None:
            return
        self._trust_looked_at = told
        if config is not self._config:
            self._config, self._verify = config, signers.verifier_of(config)
            self._parts.when_trust_changed(config.control)

    def _note_clock(self) -> None:
        """Let the journal know the time now and then, so that a clock set back while the agent is down is noticed."""
        if time.monotonic() < self._note_clock_at:
            return
        self._note_clock_at = time.monotonic() + NOTE_CLOCK_EVERY_S
        try:
            self._journal.note_clock()
        except JournalError as error:
            self._note_unwritable(error)

    def _wait_s(self) -> int:
        """How long the server may hold the question; not at all when something else is to be done very soon."""
        if not self._rhythm.may_hold(time.monotonic()):
            return 0
        soonest_s = self._next_look_s()
        if soonest_s < SHORTEST_HOLD_S:
            return 0
        return max(2, min(HOLD_S, math.ceil(min(self._reports.due_in_s, HOLD_S)), math.floor(min(soonest_s, HOLD_S))))

    def _pause_s(self, *, wait_s: int, took_s: float, has_news: bool) -> float:
        now = time.monotonic()
        if wait_s == 0 and self._rhythm.may_hold(now):
            return 0.0 if self._next_look_s() >= SHORTEST_HOLD_S else self._next_look_s()
        return self._rhythm.pause_s(now, was_held=wait_s > 0, took_s=took_s, has_news=has_news)

    def _pause(self, pause_s: float) -> None:
        self._idle(min(pause_s, self._next_look_s()))

    def _idle(self, pause_s: float) -> None:
        if pause_s > 0 and not self._is_stopping:
            self._wake.wait(pause_s)
        self._wake.clear()

    def _next_look_s(self) -> float:
        """In how many seconds a waiting command may act, expires, or may have been vetoed by somebody at the PC."""
        now = self._parts.now()
        looks_s = [math.inf]
        for entry in self._unstarted:  # None of them is due when it is put there.
            moments = (entry.acts_at, entry.expires_at)
            looks_s += [max(0.0, (at - now).total_seconds()) for at in moments if at is not None]
            if entry.acts_at is not None:
                looks_s.append(LOOK_AT_WAITING_S)
        return min(looks_s)

    def _pause_after_failure_s(self, error: ContactError, *, was_held: bool) -> float:
        if was_held and isinstance(error, RefusedError) and error.status == HTTP_BAD_REQUEST:
            self._rhythm.stop_holding(time.monotonic())
            return 0.0
        return delay_after_s(error, self._pull_backoff)

    def _recover_all(self) -> None:
        """Answer for commands that a crash left open: one that was begun is never begun again."""
        try:
            self._epoch = self._journal.epoch()
            self._reports.speak_for(self._epoch)
            self._journal.forget_old_results()
            for entry in self._journal.open_entries():
                self._recover(entry)
        except JournalError as error:
            self._note_unwritable(error)
            return
        self._has_open = False
        if self._is_unwritable:
            self._is_unwritable = False
            log_event("journal_writable")

    def _recover(self, entry: Entry) -> None:
        """Raises: JournalError."""
        log_event("command_left_open", logging.WARNING, command_id=entry.command_id, state=entry.state)
        told = self._reports.unrecorded_ending(entry.command_id)
        if told is not None:
            self._journal.finish(entry.command_id, told)
            self._reports.owe()
        else:
            self._look(Event.RECOVERED, entry)

    def _note_unwritable(self, error: JournalError) -> None:
        self._has_open = True
        if not self._is_unwritable:
            self._is_unwritable = True
            log_event("journal_unwritable", logging.ERROR, error=error)

    def look_at_waiting(self) -> None:
        """Let those begin whose countdown is over, and end those that expired or were vetoed meanwhile.

        Before the first pull nothing begins that the server may have cancelled: only what it has never heard of.
        """
        try:
            for entry in self._journal.open_entries():
                is_held_back = entry.veto is None and not (self._has_pulled or entry.is_break_glass)
                if lifecycle.is_due(entry, self._parts.now()) and not (is_held_back or self._is_stopping):
                    self._look(Event.DUE, entry)
            # What is still due could not be dealt with: it must not keep us from waiting in between.
            now = self._parts.now()
            waiting = [entry for entry in self._journal.open_entries() if entry.state in UNSTARTED]
            self._unstarted = [entry for entry in waiting if not lifecycle.is_due(entry, now)]
        except JournalError as error:
            self._unstarted = []
            self._note_unwritable(error)

    def _end_waiting(self) -> None:
        """An agent that is told to stop leaves nothing behind that would begin when it is started again."""
        try:
            for entry in self._journal.open_entries():
                if entry.state in UNSTARTED and not entry.is_break_glass:
                    self._refuse(entry, Refuse(lifecycle.not_begun()))
        except JournalError as error:
            self._note_unwritable(error)

    def _take_all(self, pulled: Pulled) -> bool:
        """Record all, then deal with each; returns whether any of them was new."""
        orders = [order for raw in pulled.commands if (order := _read(raw))]
        try:
            if orders:
                self._journal.receive([self._received(order, pulled.server_time) for order in orders])
                failpoints.hit("after_receive")
            for command_id in pulled.cancels:
                self._cancel(command_id)
        except JournalError as error:
            self._note_unwritable(error)
            return True in [self._take_unrecorded(order) for order in orders]
        return True in [self._take(order) for order in orders]

    def _received(self, order: Order, server_time: datetime | None) -> Received:
        order = security.as_signed(order, self._policy(), self._verify)
        terms = security.read_terms(order)
        expires_at = None if isinstance(terms, Refused) else terms.expires_at
        if expires_at is not None and server_time is not None:
            # A PC whose clock is slow would begin too late; a clock that is fast only ever refuses too early.
            lag = server_time - self._parts.now()
            expires_at -= min(lag, LONGEST_LAG) if lag > SKEW_TOLERANCE else timedelta()
        return Received(order.id, _as_text(order.type)[:64], _as_text(order.payload_json)[:8192], order, expires_at)

    def _cancel(self, command_id: object) -> None:
        """Raises: JournalError."""
        entry = self._journal.find(command_id) if isinstance(command_id, str) and command_id.isascii() else None
        if entry is not None and entry.state in UNSTARTED and not entry.is_break_glass:
            self._look(Event.CANCELLED, entry)

    def _take(self, order: Order) -> bool:
        if self._reports.answer_unrecorded_again(order.id):
            return False
        try:
            return self._take_recorded(order)
        except JournalError as error:
            self._note_unwritable(error)
            return self._take_unrecorded(order)

    def _take_recorded(self, order: Order) -> bool:
        """Raises: JournalError, when nothing has been begun."""
        entry = self._journal.find(order.id)
        if entry is None:
            return False
        if entry.state in UNSTARTED and self._is_stopping:
            return False
        is_new = entry.state in UNSTARTED and entry.acts_at is None
        if not is_new:
            log_event("command_redelivered", command_id=order.id, state=entry.state)
        self._look(Event.DELIVERED, entry if entry.order else replace(entry, order=order))
        return is_new

    def _look(self, event: Event, entry: Entry) -> None:
        """Do what the machine says about one command. Raises: JournalError, when nothing has been begun."""
        step = lifecycle.next_step(event, self._case(entry))
        match step:
            case Refuse():
                self._refuse(entry, step)
            case Act():
                self._act(entry, step.allowed)
            case Wait():
                self._wait(event, entry, step)
            case Report(is_running=False):
                self._reports.answer_again(entry)
            case Report():
                self._has_open = True  # A crash left it open, and the next turn answers for it.
            case Probe():
                self._probe(entry)

    def _case(self, entry: Entry) -> Case:
        self._parts.modes.refresh()
        clock = read_clock(self._parts.now(), self._journal.highest_clock())
        past = max(HOUR, timedelta(seconds=self._config.control.limits.cooldown_s))
        policy = replace(self._policy(), epoch=self._journal.epoch())
        if entry.is_break_glass:
            # The server is away: that makes this PC SAFE, and is why somebody broke the glass. What was chosen holds.
            policy = replace(policy, mode=self._parts.modes.chosen)
        return Case(entry, policy, clock, self._journal.begun_since(clock.latest - past), self._verify)

    def _policy(self) -> security.Policy:
        config, mode = self._config, self._parts.modes.current
        return security.Policy(config.agent_id, mode, config.control, self._programs, str(config.path))

    def _refuse(self, entry: Entry, step: Refuse) -> None:
        code, reason = step.refusal.code, step.refusal.reason
        if not self._journal.refuse(entry.command_id, failed(code, reason)):
            return
        log_event(
            "command_refused", logging.WARNING, command_id=entry.command_id, type=entry.type, code=code, reason=reason
        )
        failpoints.hit("after_refuse")
        if step.is_breaker and self._journal.is_breaker_news(code):
            self._report_breaker(entry, step.refusal)
        self._report_now()

    def _report_breaker(self, entry: Entry, refusal: Refused) -> None:
        log_event("breaker_tripped", logging.CRITICAL, breaker=refusal.code, command_id=entry.command_id)
        self._parts.report_incident(
            LogEntry(
                msg=f"{refusal.code}: {entry.type} was refused by this PC: {refusal.reason}",
                ts=as_text(self._parts.now()),
                level=Severity.CRITICAL,
                code=BREAKER_CODE,
                meta={"breaker": refusal.code, "command_id": entry.command_id, "type": entry.type},
            ),
            lambda: None,
        )

    def _tell_of_break_glass(self, entry: Entry, when_kept: Callable[[], None]) -> None:
        from reco3.agent import break_glass_uses  # noqa: PLC0415 - for the rare day alone

        level = logging.CRITICAL if break_glass_uses.was_used(entry) else logging.WARNING
        log_event("break_glass_over", level, command_id=entry.command_id, type=entry.type, state=entry.state)
        self._parts.report_incident(break_glass_uses.log_entry_of(entry, now=self._parts.now()), when_kept)

    def _wait(self, event: Event, entry: Entry, step: Wait) -> None:
        if step.is_new:
            failpoints.hit("before_accept")
            if not self._journal.accept(entry.command_id, step.until):
                return
            log_event("command_waits", command_id=entry.command_id, type=entry.type, acts_at=as_text(step.until))
            failpoints.hit("after_accept")
        if (step.is_new or event is Event.DELIVERED) and not entry.is_break_glass:
            self._reports.tell_accepted(entry.command_id, step.until)

    def _act(self, entry: Entry, allowed: Allowed) -> None:
        # A safe command has no beginning of its own: its effect is committed with its end, or harmless to repeat.
        is_safe = allowed.strength is Strength.SAFE
        known = self._parts.known_processes
        before = None if is_safe else probing.capture(allowed.action, self._config.control, known=known)
        if before is not None and not self._start(entry, allowed, before):
            return
        log_event("command_started", command_id=entry.command_id, type=entry.type)
        job = self._job(entry.command_id, before)
        if allowed.strength is Strength.STRONG and not entry.is_break_glass:
            job = replace(job, when_running=self._running_told_once(entry.command_id))
        try:
            ending = commands.carry_out(allowed.action, job)
        except JournalError as error:
            ending = _unrecordable(error)
        failpoints.hit("after_act")
        if allowed.strength is Strength.STRONG:
            # The next approval is for the processes as they are now, so the server should hear of them now.
            self._parts.when_acted()
        if allowed.signed_by:
            ending = replace(ending, result=ending.result | {"signed_by": list(allowed.signed_by)})
        _log_ending(entry, ending)
        self._finish(entry.command_id, ending)

    def _running_told_once(self, command_id: str) -> Callable[[], None]:
        """What tells the server that a command runs: after it does, or it would begin a round trip later."""
        has_told = False

        def tell() -> None:
            nonlocal has_told
            if not has_told:
                has_told = True
                self._reports.tell_running(command_id)

        return tell

    def _start(self, entry: Entry, allowed: Allowed, before: dict[str, Any]) -> bool:
        """Record the beginning, unless the world is not as it was approved or somebody was faster."""
        blocked = lifecycle.check_world(allowed, before, self._policy(), own_pid=os.getpid())
        if blocked is not None:
            self._refuse(entry, blocked)
            return False
        failpoints.hit("before_start")
        target = security.target_of(allowed.action)
        beginning = Beginning(entry.command_id, self._parts.now(), allowed.strength, target, before)
        if not self._journal.start(beginning):
            now = self._journal.find(entry.command_id)
            if now is not None and now.veto is not None:
                self._look(Event.DUE, now)
            return False
        failpoints.hit("after_start")
        return True

    def _job(self, command_id: str, before: dict[str, Any] | None = None) -> Job:
        return Job(command_id, as_text(self._parts.now()), self._config.control, self._journal, before=before)

    def _finish(self, command_id: str, ending: Ending) -> None:
        failpoints.hit("before_finish")
        try:
            self._journal.finish(command_id, ending)
        except JournalError as error:
            self._note_unwritable(error)
            self._reports.tell_unrecorded(command_id, ending if ending.new_mode is None else _unrecordable(error))
            return
        failpoints.hit("after_finish")
        if ending.new_mode is not None:
            self._parts.modes.adopt(ending.new_mode.mode)
        self._report_now()

    def _report_now(self) -> None:
        self._reports.owe()
        self._reports.send_owed()

    def _probe(self, entry: Entry) -> None:
        """Say what the world shows of a command that an earlier run began and did not see the end of."""
        verdict = self._verdict(entry)
        log_event(
            "command_probed",
            logging.WARNING,
            command_id=entry.command_id,
            outcome=verdict.outcome,
            reason=verdict.reason,
        )
        failpoints.hit("after_probe")
        self._journal.finish(entry.command_id, _ending_of(verdict))
        failpoints.hit("after_probe_recorded")
        self._reports.owe()

    def _verdict(self, entry: Entry) -> Verdict:
        action = security.read_action(entry.order, self._policy()) if entry.order else None
        if action is None:
            return Verdict(
                Outcome.UNKNOWN,
                "the agent stopped while it carried this out; it is unknown whether it took effect, and it will not be "
                "run again: look at the PC, then request it anew if it is still wanted",
                {"before": entry.before},
            )
        return probing.probe(
            action,
            entry.before,
            control=self._config.control,
            journal=self._journal,
            command_id=entry.command_id,
        )

    def _take_unrecorded(self, order: Order) -> bool:
        """Without the journal only a notice is safe: should it come again, it is only written once more."""
        if self._reports.answer_unrecorded_again(order.id) or self._is_held(order.id):
            return False
        policy = self._policy()
        if policy.mode is Mode.SAFE:
            # Perhaps only because the journal could not tell; nothing that SAFE refuses is begun here anyway.
            policy = replace(policy, mode=Mode.NORMAL)
        decision = security.decide(order, policy, self._verify)
        if isinstance(decision, Refused):
            ending = failed(decision.code, decision.reason)
        elif isinstance(decision.action, NotifyOps):
            ending = commands.carry_out(decision.action, self._job(order.id))
        else:
            ending = failed(
                "journal_unwritable",
                f"the agent's journal in {self._config.state_dir} cannot be written, and nothing that cannot be "
                "recorded is begun; see the agent's log, make room or mend the file",
            )
        _log_ending(Entry(order.id, _as_text(order.type), lifecycle.State.RECEIVED), ending)
        self._reports.tell_unrecorded(order.id, ending)
        return True

    def _is_held(self, command_id: str) -> bool:
        """Whether the journal knows more of a command than that it came: then only the journal may say how it ends."""
        try:
            entry = self._journal.find(command_id)
        except JournalError:
            return False
        return entry is not None and entry.state is not lifecycle.State.RECEIVED


def _read(raw: object) -> Order | None:
    order = security.read_order(raw)
    if order is None:
        log_event("order_without_id", logging.WARNING)
    return order


def _as_text(value: object) -> str:
    """What a text field of an order says, as the journal can keep it: without halves of characters."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _ending_of(verdict: Verdict) -> Ending:
    facts = {"evidence": verdict.evidence, "probed": True}
    if verdict.outcome is Outcome.COMPLETED:
        result = {"success": True, "output": verdict.reason, **facts}
        return Ending(is_success=True, result=result, undone=verdict.undone)
    ending = failed(verdict.code, verdict.reason, **facts)
    return replace(ending, is_unknown=verdict.outcome is Outcome.UNKNOWN)


def _log_ending(entry: Entry, ending: Ending) -> None:
    if ending.is_success:
        log_event("command_completed", command_id=entry.command_id, type=entry.type)
        return
    code, error = ending.result["code"], ending.result["error"]
    log_event("command_failed", logging.WARNING, command_id=entry.command_id, type=entry.type, code=code, error=error)


def _unrecordable(error: JournalError) -> Ending:
    return failed("journal_unwritable", f"nothing was changed: the agent's journal cannot be written: {error}")
