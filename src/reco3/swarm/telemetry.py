"""What a simulated PC tells: heartbeats at its own phase and numbered log lines, one request at a time.

Heartbeats go before log lines. A failure is followed by a pause, as the real agent makes it.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from reco3.protocol.limits import LOGS_PERIOD_S
from reco3.swarm.connections import Answer, Errand, Kind, Trouble
from reco3.swarm.ledger import acknowledged_seq
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.plans import FleetPlan
from reco3.swarm.requests import RequestBook
from reco3.swarm.schedule import TimerWheel, pause_s
from reco3.swarm.tallies import Mark, Tally

LINES_PER_BATCH = 100
ANSWER_TIMEOUT_S = 15.0
HTTP_OK = 200
_EARLY_S = 0.001
# PCs do not write their n-th line all in the same moment.
_GOLDEN = 0.618034


class Telemetry:
    """Heartbeats and log lines of every PC of a worker."""

    def __init__(
        self,
        plan: FleetPlan,
        book: RequestBook,
        *,
        tally: Tally,
        send: Callable[[Errand], None],
        wake: Callable[[SimulatedPc], None],
        chance: random.Random,
    ) -> None:
        self._plan = plan
        self._book = book
        self._tally = tally
        self._send = send
        self._wake = wake
        self._chance = chance
        now = time.monotonic()
        self._heartbeats = TimerWheel(self._heartbeat_due, now=now)
        self._batches = TimerWheel(self._logs_due, now=now)

    def begin(self, pc: SimulatedPc) -> None:
        """Plan a PC's first heartbeat and first batch."""
        self._heartbeats.at(pc.heartbeat_at, pc)
        if self._plan.logs_per_minute:
            pc.logs_at = pc.began_at + self._chance.random() * LOGS_PERIOD_S
            self._batches.at(pc.logs_at, pc)

    def advance(self, now: float) -> None:
        """Send what is due."""
        self._heartbeats.advance(now)
        self._batches.advance(now)

    def answered(self, errand: Errand, answer: Answer, sent_at: float) -> None:
        """Take an answer, then go on with what is due."""
        pc = errand.pc
        pc.is_talking = False
        if answer.status != HTTP_OK:
            self._pause(errand, answer.retry_after_s())
        elif errand.kind is Kind.HEARTBEAT:
            self._heartbeat_acked(pc, answer, sent_at)
        else:
            self._logs_acked(pc, answer)
        self._go_on(pc)

    def failed(self, errand: Errand, _trouble: Trouble) -> None:
        """Try again after a pause."""
        errand.pc.is_talking = False
        self._pause(errand, None)
        self._go_on(errand.pc)

    def _heartbeat_due(self, pc: SimulatedPc) -> None:
        now = time.monotonic()
        due_at = pc.heartbeat_at
        if now < due_at - _EARLY_S or now >= self._plan.ends_at:
            return
        self._tally.lags.record(now - due_at)
        pc.heartbeat_at = max(due_at + self._plan.heartbeat_s, now)
        self._heartbeats.at(pc.heartbeat_at, pc)
        if pc.heartbeat_due_at is None:
            pc.heartbeat_due_at = due_at
        if pc.is_talking:
            self._tally.held_up += 1
        else:
            self._go_on(pc)

    def _logs_due(self, pc: SimulatedPc) -> None:
        now = time.monotonic()
        if now < pc.logs_at - _EARLY_S or now >= self._plan.ends_at:
            return
        pc.logs_at = max(pc.logs_at + LOGS_PERIOD_S, now)
        self._batches.at(pc.logs_at, pc)
        pc.are_logs_due = True
        if not pc.is_talking:
            self._go_on(pc)

    def _go_on(self, pc: SimulatedPc) -> None:
        if pc.is_talking:
            return
        if pc.heartbeat_due_at is not None:
            self._send_heartbeat(pc, pc.heartbeat_due_at)
        elif pc.are_logs_due:
            self._send_logs(pc)

    def _send_heartbeat(self, pc: SimulatedPc, due_at: float) -> None:
        pc.is_talking = True
        pc.heartbeat_due_at = None
        pc.beat += 1
        pc.heartbeat_sent_at = time.time()
        request = self._book.heartbeat(pc.number, pc.key, beat=pc.beat, mode=pc.mode)
        self._send(Errand(pc, Kind.HEARTBEAT, request, due_at, ANSWER_TIMEOUT_S))

    def _send_logs(self, pc: SimulatedPc) -> None:
        now = time.monotonic()
        written_seq = int((now - pc.began_at) * self._plan.logs_per_minute / 60 + pc.number * _GOLDEN % 1)
        last_seq = max(min(written_seq, pc.acked_seq + LINES_PER_BATCH), pc.sent_seq)
        if last_seq <= pc.acked_seq:
            pc.are_logs_due = False
            return
        pc.is_talking = True
        pc.sent_seq = last_seq
        sequence = range(pc.acked_seq + 1, last_seq + 1)
        request = self._book.logs(pc.number, pc.key, sequence=sequence, at=datetime.now(UTC))
        self._send(Errand(pc, Kind.LOGS, request, now, ANSWER_TIMEOUT_S))

    def _heartbeat_acked(self, pc: SimulatedPc, answer: Answer, sent_at: float) -> None:
        pc.heartbeat_failures = 0
        pc.heartbeat_acked_at = pc.heartbeat_sent_at
        marks = self._tally.marks
        if pc.mark < len(marks):
            _note_back(pc, marks, sent_at)
        if b"commands_waiting" in answer.body:
            self._wake(pc)

    def _logs_acked(self, pc: SimulatedPc, answer: Answer) -> None:
        pc.logs_failures = 0
        acked_seq = acknowledged_seq(answer.words, first_seq=pc.acked_seq + 1, last_seq=pc.sent_seq)
        self._tally.lines_acked += max(0, acked_seq - pc.acked_seq)
        if acked_seq <= pc.acked_seq:
            pc.are_logs_due = False
        pc.acked_seq = max(pc.acked_seq, acked_seq)

    def _pause(self, errand: Errand, retry_after_s: float | None) -> None:
        pc = errand.pc
        now = time.monotonic()
        if errand.kind is Kind.HEARTBEAT:
            pc.heartbeat_failures += 1
            pc.heartbeat_due_at = None
            pc.heartbeat_at = now + pause_s(pc.heartbeat_failures, self._chance.random(), retry_after_s=retry_after_s)
            self._heartbeats.at(pc.heartbeat_at, pc)
        else:
            pc.logs_failures += 1
            pc.are_logs_due = False
            pc.logs_at = now + pause_s(pc.logs_failures, self._chance.random(), retry_after_s=retry_after_s)
            self._batches.at(pc.logs_at, pc)


def _note_back(pc: SimulatedPc, marks: list[Mark], sent_at: float) -> None:
    if sent_at < marks[-1].marked_at:
        return
    pc.mark = len(marks)
    marks[-1].back.record(time.monotonic() - marks[-1].marked_at)
