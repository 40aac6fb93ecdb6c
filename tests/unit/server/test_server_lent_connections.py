"""A connection that the express lane lends to the ordinary protocol comes back with nothing left behind."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from reco3.server.web.connections import Crowd
from reco3.server.web.express import ExpressLane, ExpressProtocol, ExpressServices
from reco3.server.web.serving import DeadlineProtocol

LOGS = b"POST /agent/logs HTTP/1.1\r\nhost: reco3\r\ncontent-length: 2\r\n\r\n{}"


class Transport(asyncio.Transport):
    """Keeps what is written, and says which protocol has it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: Any = None
        self.answers_at_change: list[int] = []
        self.is_closed = False
        self._has_written = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data
        self._has_written.set()

    async def has_written(self, text: bytes, count: int) -> None:
        while self.written.count(text) < count:
            self._has_written.clear()
            await asyncio.wait_for(self._has_written.wait(), 5)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
        self.answers_at_change.append(self.written.count(b"HTTP/1.1 200"))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        """What was sent has been received already."""

    def resume_reading(self) -> None:
        """Nothing waits to be received."""


class NoKeys:
    def is_valid(self, _agent_id: str, _key: str) -> bool:
        return False


async def answered(_scope: Any, _receive: Any, send: Any) -> None:
    """An application that says yes to everything."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


class World:
    """A lane whose ordinary protocol is the real one, and one connection."""

    def __init__(self) -> None:
        self.state = ServerState()
        services = ExpressServices(NoKeys(), None, None, None, None, None)  # type: ignore[arg-type]
        self.lane = ExpressLane(services, DeadlineProtocol, Crowd(20_000), lambda: datetime.now(UTC))
        config = Config(answered, lifespan="off", log_config=None, access_log=False)
        self.express: ExpressProtocol = self.lane(config=config, server_state=self.state, app_state={})
        self.transport = Transport()
        self.transport.set_protocol(self.express)
        self.express.connection_made(self.transport)

    async def answers(self, count: int) -> None:
        await self.transport.has_written(b"HTTP/1.1 200", count)


def test_the_connection_comes_back_and_is_counted_once() -> None:
    async def scene() -> None:
        world = World()
        for round_ in (1, 2):
            world.transport.protocol.data_received(LOGS)
            lent_to = world.transport.protocol
            assert isinstance(lent_to, DeadlineProtocol)
            await world.answers(round_)

            assert world.transport.protocol is world.express
            assert world.state.connections == {world.express}
            assert list(world.lane.idle) == [world.express]
            assert lent_to.timeout_keep_alive_task is None
            assert lent_to._deadline is None
        world.express.connection_lost(None)
        assert not world.state.connections
        assert not world.lane.idle

    asyncio.run(scene())


def test_it_stays_where_more_of_a_request_has_come() -> None:
    async def scene() -> None:
        world = World()
        world.transport.protocol.data_received(LOGS + LOGS[:30])
        await world.answers(1)
        lent_to = world.transport.protocol
        assert isinstance(lent_to, DeadlineProtocol)
        lent_to.data_received(LOGS[30:])
        await world.answers(2)
        assert world.transport.protocol is world.express

    asyncio.run(scene())


def test_it_stays_where_another_request_waits_for_its_turn() -> None:
    async def scene() -> None:
        world = World()
        world.transport.protocol.data_received(LOGS + LOGS)
        await world.answers(2)
        assert world.transport.protocol is world.express
        assert world.transport.answers_at_change == [0, 0, 2]

    asyncio.run(scene())


def test_a_page_keeps_its_protocol_and_a_closed_connection_does_not_come_back() -> None:
    async def scene() -> None:
        page, closed = World(), World()
        page.transport.protocol.data_received(b"GET /r3 HTTP/1.1\r\nhost: reco3\r\n\r\n")
        closed.transport.protocol.data_received(LOGS.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await page.answers(1)
        await closed.answers(1)
        assert isinstance(page.transport.protocol, DeadlineProtocol)
        assert isinstance(closed.transport.protocol, DeadlineProtocol)
        page.transport.protocol.connection_lost(None)

    asyncio.run(scene())
