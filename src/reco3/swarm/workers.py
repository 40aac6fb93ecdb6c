"""The swarm's processes: each simulates its share and sends home what it counted.

It starts nothing but itself, by fork; a worker ends when whoever started it is gone.
"""

import asyncio
import gc
import os
import pickle
import resource
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reco3.swarm.fleets import FleetResult
from reco3.swarm.targets import SwarmFailed

SOCKETS_PER_WORKER = 18_000
SPARE_DESCRIPTORS = 2_000
FEWEST_DESCRIPTORS = 512
COLLECT_SELDOM = (50_000, 20, 50)
_CHUNK_BYTES = 1 << 20


class Job(Protocol):
    """What a worker does."""

    async def run(self) -> FleetResult:
        """Work to the end."""

    def stop(self) -> None:
        """End early."""

    def mark(self) -> None:
        """Note this moment."""


@dataclass(slots=True)
class _Worker:
    pid: int
    pipe: int
    parts: list[bytes] = field(default_factory=list)


class Workers:
    """Forked processes; SIGINT and SIGTERM end them early, SIGUSR1 marks a moment in each."""

    def __init__(self, jobs: Sequence[Callable[[], Job]]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        # Shared pages stay shared as long as the collector does not touch them.
        gc.freeze()
        self._selector = selectors.DefaultSelector()
        self._workers = [self._fork(job) for job in jobs]
        for worker in self._workers:
            self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._pass_on)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Take in what has come within the time; returns whether all workers are done."""
        if not self._selector.get_map():
            return True
        for key, _ in self._selector.select(timeout_s):
            worker: _Worker = key.data
            part = os.read(worker.pipe, _CHUNK_BYTES)
            worker.parts.append(part)
            if not part:
                self._selector.unregister(worker.pipe)
                os.close(worker.pipe)
        return not self._selector.get_map()

    def results(self) -> list[FleetResult]:
        """What all workers brought home, in their order.

        Raises:
            SwarmFailed: one of them ended without a result; it has said why.
        """
        while not self.wait():
            pass
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1]) for worker in self._workers]
        if any(codes):
            raise SwarmFailed("a worker of the swarm failed")
        outcomes = [pickle.loads(b"".join(worker.parts)) for worker in self._workers]  # noqa: S301 - from our own fork
        for outcome in outcomes:
            if isinstance(outcome, SwarmFailed):
                raise outcome
        return outcomes

    def _pass_on(self, number: int, _frame: object) -> None:
        for worker in self._workers:
            try:
                os.kill(worker.pid, signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)
            except ProcessLookupError:
                continue

    def _fork(self, job: Callable[[], Job]) -> _Worker:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            return _Worker(pid, reading)
        code = 1
        try:
            os.close(reading)
            _send_home(writing, _outcome(job))
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
            traceback.print_exc()
        finally:
            os._exit(code)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to what it may be; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else SOCKETS_PER_WORKER + SPARE_DESCRIPTORS


def workers_for(sockets: int, descriptors: int) -> int:
    """How many processes so many sockets need."""
    room = max(FEWEST_DESCRIPTORS, min(SOCKETS_PER_WORKER, descriptors - SPARE_DESCRIPTORS))
    return max(1, -(-sockets // room))


def _outcome(job: Callable[[], Job]) -> FleetResult | SwarmFailed:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Looking for cycles among a hundred thousand PCs costs pauses that the schedule would feel.
    gc.set_threshold(*COLLECT_SELDOM)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(job()))
    except SwarmFailed as err:
        return err


async def _run(job: Job) -> FleetResult:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, job.stop)
    loop.add_signal_handler(signal.SIGUSR1, job.mark)
    return await job.run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - the swarm also runs, slower, without it
    except ImportError:
        return None
    return uvloop.new_event_loop


def _send_home(pipe: int, outcome: FleetResult | SwarmFailed) -> None:
    with os.fdopen(pipe, "wb") as file:
        file.write(pickle.dumps(outcome))
