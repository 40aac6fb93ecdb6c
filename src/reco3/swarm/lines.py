"""How requests travel: each PC over connections of its own, or all over a pool, as behind a proxy.

It opens what is missing and hands answers and failures on; it repeats nothing but what a stale connection lost.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from reco3.swarm.connections import Answer, Connection, Connector, Errand, Kind, Trouble
from reco3.swarm.schedule import TimerWheel

DEADLINE_TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how errands end; `answered` also gets the moment at which the request was sent."""

    answered: Callable[[Errand, Answer, float], None]
    failed: Callable[[Errand, Trouble], None]


class Lines(Protocol):
    """A way for errands."""

    def send(self, errand: Errand) -> None:
        """Send a request as soon as a connection is free."""


class LineHouse:
    """What all lines of a worker share: the connector, the deadlines and the count of connections."""

    def __init__(self, connector: Connector, listener: Listener) -> None:
        self.listener = listener
        self.opened = 0
        self.stale = 0
        self._connector = connector
        self._deadlines = TimerWheel(self._check, now=time.monotonic(), tick_s=DEADLINE_TICK_S)
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> Collection[Connection]:
        """Those that are open."""
        return self._open

    def advance(self, now: float) -> None:
        """Give up what is overdue."""
        self._deadlines.advance(now)

    def watch(self, connection: Connection) -> None:
        """Look at a connection again when its answer is overdue."""
        self._deadlines.at(connection.deadline_at, connection)

    async def open(self, factory: Callable[[], Connection]) -> Connection:
        """Open a connection. Raises: OSError."""
        connection = await self._connector.open(factory)
        self.opened += 1
        self._open.add(connection)
        return connection

    def forget(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        self._open.discard(connection)

    def spawn(self, opening: "asyncio._CoroutineLike[None]") -> None:
        """Run an opening beside everything else."""
        task = asyncio.get_running_loop().create_task(opening)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close everything."""
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)

    def _check(self, connection: Connection) -> None:
        if connection.check_deadline(time.monotonic()):
            self.watch(connection)


class OwnLines:
    """Two connections a PC, as the real agent has: one for heartbeats and log lines, one for pulls and reports."""

    def __init__(self, house: LineHouse) -> None:
        self._house = house

    def send(self, errand: Errand) -> None:
        """Send over the PC's own connection."""
        is_control = errand.kind in (Kind.PULL, Kind.REPORT)
        connection = errand.pc.control if is_control else errand.pc.telemetry
        if connection is not None and connection.is_open:
            connection.send(errand)
        else:
            self._house.spawn(self._open_and_send(errand, is_control=is_control))

    async def _open_and_send(self, errand: Errand, *, is_control: bool) -> None:
        try:
            connection = await self._house.open(lambda: Connection(self))
        except OSError:
            self._house.listener.failed(errand, Trouble.UNREACHABLE)
            return
        if is_control:
            errand.pc.control = connection
        else:
            errand.pc.telemetry = connection
        if connection.is_open:
            connection.send(errand)
        else:
            self._house.listener.failed(errand, Trouble.CLOSED)

    def answered(self, connection: Connection, errand: Errand, answer: Answer) -> None:
        """The PC's next errand may follow."""
        self._house.listener.answered(errand, answer, connection.sent_at)

    def closed(self, connection: Connection, errand: Errand | None, trouble: Trouble) -> None:
        """Repeat at once what a stale connection lost; all else is the PC's business."""
        self._house.forget(connection)
        if errand is None:
            return
        if trouble is Trouble.STALE:
            self._house.stale += 1
            self._house.spawn(self._open_and_send(errand, is_control=connection is errand.pc.control))
            return
        self._house.listener.failed(errand, trouble)

    def watch(self, connection: Connection) -> None:
        """Have the deadline looked at."""
        self._house.watch(connection)


class ConnectionPool:
    """At most `limit` connections (None: as many as are needed), of which at most `kept` are kept idle."""

    def __init__(self, house: LineHouse, *, limit: int | None, kept: int) -> None:
        self._house = house
        self._limit = limit
        self._kept = kept
        self._count = 0
        self._idle: list[Connection] = []
        self._waiting: deque[Errand] = deque()

    def send(self, errand: Errand) -> None:
        """Send over an idle connection, a new one, or the next that becomes free."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                connection.send(errand)
                return
        if self._limit is None or self._count < self._limit:
            self._count += 1
            self._house.spawn(self._open_and_send(errand))
        else:
            self._waiting.append(errand)

    async def _open_and_send(self, errand: Errand) -> None:
        try:
            connection = await self._house.open(lambda: Connection(self))
        except OSError:
            self._count -= 1
            self._house.listener.failed(errand, Trouble.UNREACHABLE)
            self._serve_waiting()
            return
        if connection.is_open:
            connection.send(errand)
        else:
            self._house.listener.failed(errand, Trouble.CLOSED)

    def answered(self, connection: Connection, errand: Errand, answer: Answer) -> None:
        """Serve who waits, or keep the connection."""
        if not connection.is_open:
            pass
        elif self._waiting:
            connection.send(self._waiting.popleft())
        elif len(self._idle) < self._kept:
            self._idle.append(connection)
        else:
            connection.close()
        self._house.listener.answered(errand, answer, connection.sent_at)

    def closed(self, connection: Connection, errand: Errand | None, trouble: Trouble) -> None:
        """Make room for another."""
        self._house.forget(connection)
        self._count -= 1
        if errand is not None and trouble is Trouble.STALE:
            self._house.stale += 1
            self.send(errand)
        elif errand is not None:
            self._house.listener.failed(errand, trouble)
        self._serve_waiting()

    def watch(self, connection: Connection) -> None:
        """Have the deadline looked at."""
        self._house.watch(connection)

    def _serve_waiting(self) -> None:
        if self._waiting:
            self.send(self._waiting.popleft())


class SharedLines:
    """Short exchanges over `count` connections; a pull has its own while it lasts, as behind a proxy.

    Of the connections that pulls have left, at most `count` are kept for the next ones.
    """

    def __init__(self, house: LineHouse, count: int) -> None:
        self._exchanges = ConnectionPool(house, limit=count, kept=count)
        self._pulls = ConnectionPool(house, limit=None, kept=count)

    def send(self, errand: Errand) -> None:
        """Send over the pool of its kind."""
        pool = self._pulls if errand.kind is Kind.PULL else self._exchanges
        pool.send(errand)
