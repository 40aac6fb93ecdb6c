"""A worker's share of the fleet: its PCs, their lines, and the one clock that moves them.

It knows which part an answer belongs to, counts it, and hands it on.
"""

import asyncio
import gc
import os
import random
import resource
import time
from dataclasses import dataclass

from reco3.swarm.connections import Answer, Connector, Errand, Kind, Trouble
from reco3.swarm.control import Control
from reco3.swarm.ledger import Ledger
from reco3.swarm.lines import LineHouse, Lines, Listener, OwnLines, SharedLines
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.plans import FleetPlan
from reco3.swarm.requests import RequestBook
from reco3.swarm.schedule import TICK_S, start_offset_s
from reco3.swarm.tallies import Mark, Tally
from reco3.swarm.targets import source_addresses
from reco3.swarm.telemetry import Telemetry

DRAIN_S = 5.0
HTTP_OK = 200
FIRST_SERVER_ERROR = 500
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What a worker brings home."""

    tally: Tally
    ledger: Ledger


class Fleet:
    """The PCs with certain numbers, run until the plan ends or `stop` is called."""

    def __init__(self, plan: FleetPlan, numbers: range, *, worker: int) -> None:
        self._plan = plan
        self._numbers = numbers
        self._worker = worker
        self._tally = Tally()
        self._is_stopping = False
        self._is_over = False
        self._chance = random.Random(f"{plan.seed}:{worker}")  # noqa: S311 - repeats with its seed, guards nothing
        self._in_flight = 0

    async def run(self) -> FleetResult:
        """Simulate to the end."""
        self._tally.idle_rss_bytes = rss_bytes()
        house = LineHouse(
            Connector(self._plan.target, source_addresses(self._plan.target, self._worker)),
            Listener(self._answered, self._failed),
        )
        self._lines = _lines(house, self._plan)
        self._wire()
        pcs = [self._begin(number) for number in self._numbers]
        # They live to the end: nobody needs to look for cycles among them.
        gc.freeze()
        began_at, began_cpu_s = time.monotonic(), cpu_s()
        await self._turn(house)
        self._close_books(house, wall_s=time.monotonic() - began_at, used_cpu_s=cpu_s() - began_cpu_s)
        self._is_over = True
        await house.close()
        return FleetResult(self._tally, Ledger.of(self._plan.epoch, pcs, self._control.arrivals))

    def stop(self) -> None:
        """End before the plan does."""
        self._is_stopping = True

    def mark(self) -> None:
        """Note this moment: from now on it is measured when each PC has a heartbeat acknowledged again."""
        self._tally.marks.append(Mark(time.monotonic()))

    def _wire(self) -> None:
        plan, tally, chance = self._plan, self._tally, self._chance
        started_ms = int(time.time() * 1000)
        book = RequestBook(plan.target, epoch=plan.epoch, started_ms=started_ms, pull_wait_s=plan.pull_wait_s)
        self._control = Control(plan, book, send=self._send, chance=chance)
        self._telemetry = Telemetry(plan, book, tally=tally, send=self._send, wake=self._control.wake, chance=chance)

    def _begin(self, number: int) -> SimulatedPc:
        offset_s = start_offset_s(number, pcs=self._plan.pcs, spread_s=self._plan.start_spread_s)
        pc = SimulatedPc(number, seed=self._plan.seed, began_at=self._plan.starts_at + offset_s)
        self._telemetry.begin(pc)
        self._control.begin(pc)
        return pc

    async def _turn(self, house: LineHouse) -> None:
        parent, ends_at = os.getppid(), self._plan.ends_at
        drained_at = ends_at + DRAIN_S
        next_tick_at = time.monotonic()
        while True:
            now = time.monotonic()
            if self._is_stopping or now >= drained_at or (now >= ends_at and not self._in_flight):
                return
            if os.getppid() != parent:
                return
            self._telemetry.advance(now)
            self._control.advance(now)
            house.advance(now)
            next_tick_at = max(next_tick_at + TICK_S, time.monotonic())
            await asyncio.sleep(next_tick_at - time.monotonic())

    def _send(self, errand: Errand) -> None:
        likely = self._plan.failure_probability
        if likely and self._chance.random() < likely:
            is_early = self._chance.random() < 0.5  # noqa: PLR2004 - one or the other
            errand = errand._replace(is_cut_early=is_early, is_cut_late=not is_early)
        if errand.kind is not Kind.PULL:
            self._in_flight += 1
        self._lines.send(errand)

    def _answered(self, errand: Errand, answer: Answer, sent_at: float) -> None:
        now = time.monotonic()
        self._count(errand, answer, now=now, sent_at=sent_at)
        if errand.kind is Kind.HEARTBEAT or errand.kind is Kind.LOGS:
            self._in_flight -= 1
            self._telemetry.answered(errand, answer, sent_at)
        else:
            self._in_flight -= errand.kind is Kind.REPORT
            self._control.answered(errand, answer, sent_at)

    def _failed(self, errand: Errand, trouble: Trouble) -> None:
        if self._is_over:
            return
        self._tally.errors[f"{errand.kind} {trouble}"] += 1
        if trouble is not Trouble.CUT:
            self._tally.note(self._second(time.monotonic()), "errors")
        if errand.kind is Kind.HEARTBEAT or errand.kind is Kind.LOGS:
            self._in_flight -= 1
            self._telemetry.failed(errand, trouble)
        else:
            self._in_flight -= errand.kind is Kind.REPORT
            self._control.failed(errand, trouble)

    def _count(self, errand: Errand, answer: Answer, *, now: float, sent_at: float) -> None:
        tally = self._tally
        if answer.status != HTTP_OK:
            tally.errors[f"{errand.kind} {answer.status}"] += 1
            what = "server_errors" if answer.status >= FIRST_SERVER_ERROR else "errors"
            tally.note(self._second(now), what)
            return
        if errand.kind is Kind.HEARTBEAT:
            tally.note(self._second(now), "heartbeats")
        if not self._plan.measured_from <= now < self._plan.ends_at:
            return
        tally.answered[errand.kind] += 1
        if errand.kind is not Kind.PULL:
            tally.latencies[errand.kind].record(now - errand.scheduled_at)
        elif b'"commands":[]' in answer.body:
            held_s = 0 if b'"poll_after_s"' in answer.body else self._plan.pull_wait_s
            tally.latencies[Kind.PULL].record(now - sent_at - held_s)

    def _second(self, now: float) -> int:
        return int(now - self._plan.starts_at)

    def _close_books(self, house: LineHouse, *, wall_s: float, used_cpu_s: float) -> None:
        tally = self._tally
        tally.started_at = time.time() - (time.monotonic() - self._plan.starts_at)
        tally.measured_s = min(time.monotonic(), self._plan.ends_at) - self._plan.measured_from
        tally.opened, tally.stale = house.opened, house.stale
        tally.wall_s, tally.cpu_s, tally.rss_bytes = wall_s, used_cpu_s, rss_bytes()


def rss_bytes() -> int:
    """The memory that this process occupies now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - at the hottest start, and no path of anybody's
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_s() -> float:
    """The processor time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _lines(house: LineHouse, plan: FleetPlan) -> Lines:
    return OwnLines(house) if plan.shared_connections is None else SharedLines(house, plan.shared_connections)
