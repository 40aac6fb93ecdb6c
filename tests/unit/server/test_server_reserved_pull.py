"""A held pull that somebody reserved waits on as it was, and looks again only when it was woken meanwhile."""

import asyncio

import pytest

from lanes import AllKeys, connected
from reco3.server.domain.commands import NOTHING, Pulled
from reco3.server.services.wakeups import Wakeups
from reco3.server.web.express import ExpressProtocol, ExpressServices

pytestmark = pytest.mark.anyio

PC = "pc-001"
PULL = (
    b"GET /agent/pull?wait=20&journal=j1 HTTP/1.1\r\n"
    b"host: reco3\r\nx-agent-id: pc-001\r\nx-api-key: key-of-the-pc\r\n\r\n"
)


class Queue:
    """Deliveries that have nothing, and count how often they are asked."""

    def __init__(self) -> None:
        self.asked = 0

    def note_journal(self, _agent_id: str, _journal: str | None) -> None:
        """Every journal will do."""

    async def pull_now(self, _agent_id: str, *, journal: str | None) -> Pulled:
        assert journal == "j1"
        self.asked += 1
        return NOTHING


class World:
    """One connection that holds a pull."""

    def __init__(self) -> None:
        self.queue, self.wakeups = Queue(), Wakeups()
        self.wakeups.load(())
        services = ExpressServices(AllKeys(), None, self.queue, self.wakeups, None, None)  # type: ignore[arg-type]
        self.lane, self.express, self.transport = connected(services)
        self.express.data_received(PULL)

    async def settle(self) -> None:
        while self.lane.tasks:
            await asyncio.gather(*self.lane.tasks)

    def reserve(self) -> ExpressProtocol:
        held = self.wakeups.reserve(PC)
        assert held is self.express
        assert self.wakeups.reserve(PC) is None
        return self.express


async def test_it_is_held_again_without_a_look_and_may_be_reserved_again() -> None:
    world = World()
    world.reserve().resume()
    await world.settle()
    assert world.queue.asked == 0
    world.reserve().give(NOTHING)
    assert world.transport.written.count(b"200 OK") == 1


async def test_it_looks_again_when_it_was_woken_meanwhile() -> None:
    world = World()
    held = world.reserve()
    world.wakeups.wake(PC)
    await world.settle()
    assert world.queue.asked == 0
    held.resume()
    await world.settle()
    assert world.queue.asked == 1
    assert world.reserve() is held


async def test_a_wake_that_spares_it_does_not_count() -> None:
    world = World()
    held = world.reserve()
    world.wakeups.wake(PC, unless=held.wake)
    held.resume()
    await world.settle()
    assert world.queue.asked == 0
    world.wakeups.wake(PC)
    await world.settle()
    assert world.queue.asked == 1


async def test_a_pc_that_hung_up_meanwhile_is_forgotten() -> None:
    world = World()
    held = world.reserve()
    world.transport.is_closed = True
    held.resume()
    await world.settle()
    assert world.queue.asked == 0
    assert world.wakeups.reserve(PC) is None
