"""What a simulated PC asks: held pulls one after the other, and a report of each command that they carried.

A command is carried out at most once, however often it is delivered; there is nothing to carry out but a mode.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from reco3.protocol.commands import CommandType, Mode
from reco3.protocol.limits import PULL_PERIOD_S
from reco3.swarm.connections import Answer, Errand, Kind, Trouble
from reco3.swarm.ledger import Arrival
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.plans import FleetPlan
from reco3.swarm.requests import RequestBook
from reco3.swarm.schedule import TimerWheel, jittered_s, pause_s

PULL_GRACE_S = 10.0
REPORT_TIMEOUT_S = 15.0
QUICK_ANSWER_S = 1.0
QUICK_ANSWERS_UNTIL_POLLING = 3
HTTP_OK = 200
_EARLY_S = 0.001
_HOPELESS = (400, 404, 409)
_STRONG = (CommandType.RESTART_PROCESS, CommandType.STOP_PROCESS, CommandType.ROLLBACK)


class Control:
    """Pulls and reports of every PC of a worker; `arrivals` is what their journals hold, by command id."""

    def __init__(
        self, plan: FleetPlan, book: RequestBook, *, send: Callable[[Errand], None], chance: random.Random
    ) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self._plan = plan
        self._book = book
        self._send = send
        self._chance = chance
        self._wheel = TimerWheel(self._due, now=time.monotonic())

    def begin(self, pc: SimulatedPc) -> None:
        """Plan a PC's first pull; one that holds none waits until it is told that something waits."""
        pc.is_resting = True
        pc.control_at = pc.began_at
        if pc.number < self._plan.held_pulls:
            self._wheel.at(pc.control_at, pc)

    def advance(self, now: float) -> None:
        """Ask what is due to be asked."""
        self._wheel.advance(now)

    def wake(self, pc: SimulatedPc) -> None:
        """Ask now: the server says that something may wait."""
        if not pc.is_asking and pc.is_resting:
            self._go_on(pc)

    def answered(self, errand: Errand, answer: Answer, sent_at: float) -> None:
        """Take an answer, then go on."""
        pc = errand.pc
        pc.is_asking = False
        if answer.status == HTTP_OK:
            pc.control_failures = 0
            if errand.kind is Kind.REPORT:
                self._reported(pc)
            else:
                self._pulled(pc, answer, time.monotonic() - sent_at)
        elif errand.kind is Kind.REPORT and answer.status in _HOPELESS:
            self._drop_report(pc)
        else:
            self._pause(pc, answer.retry_after_s())
        if not pc.is_resting:
            self._go_on(pc)

    def failed(self, errand: Errand, _trouble: Trouble) -> None:
        """Try again after a pause."""
        errand.pc.is_asking = False
        self._pause(errand.pc, None)

    def _due(self, pc: SimulatedPc) -> None:
        if pc.is_resting and not pc.is_asking and time.monotonic() >= pc.control_at - _EARLY_S:
            self._go_on(pc)

    def _go_on(self, pc: SimulatedPc) -> None:
        now = time.monotonic()
        pc.is_resting = False
        if now >= self._plan.ends_at and not pc.reports:
            return
        pc.is_asking = True
        if pc.reports:
            request = self._book.report(pc.number, pc.key, command_id=pc.reports[0])
            self._send(Errand(pc, Kind.REPORT, request, now, REPORT_TIMEOUT_S))
        else:
            timeout_s = self._plan.pull_wait_s + PULL_GRACE_S
            self._send(Errand(pc, Kind.PULL, self._book.pull(pc.number, pc.key), now, timeout_s))

    def _pulled(self, pc: SimulatedPc, answer: Answer, took_s: float) -> None:
        words = answer.words
        for order in words.get("commands", ()):
            self._take(pc, order)
        rest_s = self._rest_s(pc, words, took_s)
        if rest_s is None or (rest_s and not pc.reports):
            self._rest(pc, rest_s)

    def _rest_s(self, pc: SimulatedPc, words: Mapping[str, Any], took_s: float) -> float | None:
        """How long to rest after a pull; None: until it is told that something waits."""
        if pc.reports:
            return 0.0
        if pc.number >= self._plan.held_pulls:
            return None
        if "poll_after_s" in words:
            return jittered_s(float(words["poll_after_s"]), self._chance.random())
        is_quick = took_s < QUICK_ANSWER_S and not words.get("commands")
        pc.quick_answers = pc.quick_answers + 1 if is_quick else 0
        is_polling = not self._plan.pull_wait_s or pc.quick_answers >= QUICK_ANSWERS_UNTIL_POLLING
        return PULL_PERIOD_S * (0.95 + 0.05 * self._chance.random()) if is_polling else 0.0

    def _take(self, pc: SimulatedPc, order: Mapping[str, Any]) -> None:
        command_id = str(order["id"])
        if pc.seen is None:
            pc.seen, pc.reports = set(), []
        if command_id in pc.seen:
            self.arrivals[command_id].deliveries += 1
        else:
            pc.seen.add(command_id)
            is_strong = order.get("type") in _STRONG
            self.arrivals[command_id] = Arrival(pc.number, time.time(), is_strong=is_strong)
            _carry_out(pc, order)
        if pc.reports is not None and command_id not in pc.reports:
            pc.reports.append(command_id)

    def _reported(self, pc: SimulatedPc) -> None:
        if pc.reports:
            self.arrivals[pc.reports.pop(0)].is_reported = True
            self._rest_if_done(pc)

    def _drop_report(self, pc: SimulatedPc) -> None:
        if pc.reports:
            pc.reports.pop(0)
            self._rest_if_done(pc)

    def _rest_if_done(self, pc: SimulatedPc) -> None:
        if not pc.reports and pc.number >= self._plan.held_pulls:
            self._rest(pc, None)

    def _pause(self, pc: SimulatedPc, retry_after_s: float | None) -> None:
        pc.control_failures += 1
        if pc.number >= self._plan.held_pulls and not pc.reports:
            self._rest(pc, None)
        else:
            self._rest(pc, pause_s(pc.control_failures, self._chance.random(), retry_after_s=retry_after_s))

    def _rest(self, pc: SimulatedPc, span_s: float | None) -> None:
        pc.is_resting = True
        if span_s is not None:
            pc.control_at = time.monotonic() + span_s
            self._wheel.at(pc.control_at, pc)


def _carry_out(pc: SimulatedPc, order: Mapping[str, Any]) -> None:
    if order.get("type") != CommandType.SET_MODE:
        return
    mode = json.loads(order["payload_json"]).get("mode")
    if mode in set(Mode):
        pc.mode = json.dumps(mode).encode("ascii")
