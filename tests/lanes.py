"""One connection of the express lane without a network: what was written to it can be read."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from reco3.server.web.connections import Crowd
from reco3.server.web.express import ExpressLane, ExpressProtocol, ExpressServices


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class AllKeys:
    changes = 0

    def is_valid(self, _agent_id: str, _key: str) -> bool:
        return True


def connected(services: ExpressServices) -> tuple[ExpressLane, ExpressProtocol, Transport]:
    """A lane over these services, and one new connection of it."""
    lane = ExpressLane(services, lambda *_: None, Crowd(20_000), lambda: datetime.now(UTC))
    express: ExpressProtocol = lane(
        config=Config(lambda: None, log_config=None), server_state=ServerState(), app_state={}
    )
    transport = Transport()
    express.connection_made(transport)
    return lane, express, transport
