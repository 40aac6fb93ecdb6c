"""Throughput: heartbeats (or any request) as fast as they are answered, or at a fixed rate whatever the answers do.

At a fixed rate a latency counts from the moment at which the request was due, so that a slow server cannot hide by
slowing the generator down.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from reco3.swarm.connections import Answer, Connection, Connector, Errand, Kind, Trouble
from reco3.swarm.fleets import FleetResult, cpu_s, rss_bytes
from reco3.swarm.ledger import Ledger
from reco3.swarm.lines import LineHouse, Listener
from reco3.swarm.pcs import SimulatedPc
from reco3.swarm.plans import LoadPlan
from reco3.swarm.requests import BeatBook, plain_request
from reco3.swarm.tallies import Mark, Tally
from reco3.swarm.targets import SwarmFailed, source_addresses

TICK_S = 0.001
CHECK_EVERY_S = 0.25
ANSWER_TIMEOUT_S = 15.0
DRAIN_S = 0.5
PAUSE_AFTER_FAILURE_S = 0.1
HTTP_OK = 200


class Load:
    """A worker's connections, each with one request at a time, for the PCs with certain numbers in turn."""

    def __init__(self, plan: LoadPlan, numbers: range, *, worker: int, connections: int, rate: float | None) -> None:
        self._plan = plan
        self._worker = worker
        self._connections = connections
        self._rate = rate
        self._pcs = [SimulatedPc(number, seed=plan.seed, began_at=plan.starts_at) for number in numbers]
        self._next_pc = 0
        self._tally = Tally()
        self._is_stopping = False
        self._free: list[Connection] = []
        self._due: deque[float] = deque()
        self._measured_from = plan.starts_at + plan.warm_up_s
        self._ends_at = plan.starts_at + plan.seconds
        self._make = _maker(plan)

    async def run(self) -> FleetResult:
        """Load the server to the end.

        Raises:
            SwarmFailed: not one connection could be opened.
        """
        self._tally.idle_rss_bytes = rss_bytes()
        sources = source_addresses(self._plan.target, self._worker)
        self._house = LineHouse(Connector(self._plan.target, sources), Listener(lambda *_: None, lambda *_: None))
        await self._open_all()
        await _sleep_until(self._plan.starts_at)
        began_at, began_cpu_s = time.monotonic(), cpu_s()
        await (self._run_closed() if self._rate is None else self._run_open(self._rate))
        tally = self._tally
        tally.measured_s = min(time.monotonic(), self._ends_at) - self._measured_from
        tally.wall_s, tally.cpu_s, tally.rss_bytes = time.monotonic() - began_at, cpu_s() - began_cpu_s, rss_bytes()
        tally.backlog, tally.opened, tally.stale = len(self._due), self._house.opened, self._house.stale
        await self._house.close()
        return FleetResult(tally, Ledger(self._plan.epoch))

    def stop(self) -> None:
        """End before the plan does."""
        self._is_stopping = True

    def mark(self) -> None:
        """Note this moment."""
        self._tally.marks.append(Mark(time.monotonic()))

    async def _open_all(self) -> None:
        opening = (self._house.open(lambda: Connection(self)) for _ in range(self._connections))
        opened = await asyncio.gather(*opening, return_exceptions=True)
        self._free = [connection for connection in opened if isinstance(connection, Connection)]
        if not self._free:
            raise SwarmFailed(f"nobody answers at {self._plan.target.authority}: {opened[0]}")

    async def _run_closed(self) -> None:
        free, self._free = self._free, []
        for connection in free:
            self._send(connection, time.monotonic())
        while not self._is_over():
            self._house.advance(time.monotonic())
            await asyncio.sleep(CHECK_EVERY_S)

    async def _run_open(self, rate: float) -> None:
        made = 0
        while not self._is_over():
            now = time.monotonic()
            wanted = int((now - self._plan.starts_at) * rate)
            for number in range(made, wanted):
                due_at = self._plan.starts_at + number / rate
                self._tally.lags.record(now - due_at)
                self._due.append(due_at)
            made = wanted
            self._send_due()
            self._house.advance(now)
            await asyncio.sleep(TICK_S)
        # A moment for what is on its way: its latency counts too.
        await asyncio.sleep(DRAIN_S)
        self._count_unanswered(time.monotonic())

    def _count_unanswered(self, now: float) -> None:
        """What was due and has no answer took at least until now; leaving it out would flatter a server that stalls."""
        pending = (connection.pending for connection in self._house.connections)
        overdue = [errand.scheduled_at for errand in pending if errand is not None]
        for due_at in (*overdue, *self._due):
            if due_at >= self._measured_from:
                self._tally.latencies[Kind.HEARTBEAT].record(now - due_at)

    def _is_over(self) -> bool:
        return self._is_stopping or time.monotonic() >= self._ends_at

    def _send_due(self) -> None:
        while self._due and self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._send(connection, self._due.popleft())

    def _send(self, connection: Connection, due_at: float) -> None:
        pc = self._pcs[self._next_pc]
        self._next_pc = (self._next_pc + 1) % len(self._pcs)
        pc.beat += 1
        connection.send(Errand(pc, Kind.HEARTBEAT, self._make(pc), due_at, ANSWER_TIMEOUT_S))

    def answered(self, connection: Connection, errand: Errand, answer: Answer) -> None:
        """Count, and send the next."""
        now = time.monotonic()
        if answer.status != HTTP_OK:
            self._tally.errors[f"{answer.status}"] += 1
        elif self._measured_from <= now < self._ends_at:
            self._tally.answered[Kind.HEARTBEAT] += 1
        if answer.status == HTTP_OK and errand.scheduled_at >= self._measured_from:
            self._tally.latencies[Kind.HEARTBEAT].record(now - errand.scheduled_at)
        if connection.is_open:
            self._use(connection, now)

    def closed(self, connection: Connection, errand: Errand | None, trouble: Trouble) -> None:
        """Open another in its place."""
        self._house.forget(connection)
        if self._is_over():
            return
        if errand is not None:
            self._tally.errors[trouble] += 1
        self._house.spawn(self._reopen())

    def watch(self, connection: Connection) -> None:
        """Have the deadline looked at."""
        self._house.watch(connection)

    async def _reopen(self) -> None:
        while not self._is_over():
            try:
                connection = await self._house.open(lambda: Connection(self))
            except OSError:
                self._tally.errors[Trouble.UNREACHABLE] += 1
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
                continue
            if connection.is_open:
                self._use(connection, time.monotonic())
            return

    def _use(self, connection: Connection, now: float) -> None:
        if self._rate is not None:
            if self._due:
                self._send(connection, self._due.popleft())
            else:
                self._free.append(connection)
        elif not self._is_over():
            self._send(connection, now)


def _maker(plan: LoadPlan) -> Callable[[SimulatedPc], bytes]:
    if plan.method == "GET":
        plain = plain_request(plan.target, plan.method, plan.path)
        return lambda pc: plain(pc.number, pc.key)
    book = BeatBook(plan.target, plan.path, epoch=plan.epoch, started_ms=int(time.time() * 1000))
    return lambda pc: book.heartbeat(pc.number, pc.key, pc.beat)


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
