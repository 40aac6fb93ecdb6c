"""The real server with the storing of heartbeats cut out: what its HTTP, its key check and its decoding cost alone.

It answers a heartbeat as the server does and keeps nothing, so it is good for a comparison and for nothing else. A test
and every run check that it kept nothing: a heartbeat that found another way into the database would void the figure.
Usage and settings are those of `reco3 server`.
"""

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime

from reco3.cli import main
from reco3.server.domain.agents import TakenHeartbeat
from reco3.server.services.agents import AgentService


async def _keep_nothing(_service: AgentService, _taken: TakenHeartbeat) -> None:
    """Stand in for a heartbeat that became durable on the ordinary way."""


def _tell_in_the_next_turn(
    _service: AgentService, taken: TakenHeartbeat, *, told: Callable[[datetime | None, BaseException | None], None]
) -> None:
    """Stand in for a heartbeat that became durable on the express lane."""
    # As after a commit: the express lane notes that it owes an answer only once this call has returned.
    asyncio.get_running_loop().call_soon(told, taken.at, None)


if __name__ == "__main__":
    AgentService.record_heartbeat = _keep_nothing  # type: ignore[assignment, method-assign]
    AgentService.post_heartbeat = _tell_in_the_next_turn  # type: ignore[assignment, method-assign]
    sys.exit(main(["server"]))
