"""The live stream to open dashboards (server-sent events).

It carries hints at what changed, gathered for a quarter of a second; the page then reads what it shows.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from reco3.server.domain.errors import Busy
from reco3.server.domain.operators import Role
from reco3.server.web.audiences import operators, serves
from reco3.server.web.shapes import time_text

GATHER_S = 0.25
KEEP_ALIVE_S = 15.0
MAX_NAMED_AGENTS = 50
MAX_DASHBOARDS = 500


class _Dashboard:
    """What one open page has not been told yet, and whose page it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_over = False
        self.topics: set[str] = set()
        self.agent_ids: set[str] = set()
        self.news = asyncio.Event()

    def taken_news(self) -> dict[str, list[str]]:
        """What is new, and forget it."""
        content = {"topics": sorted(self.topics), "agent_ids": sorted(self.agent_ids)}
        self.topics.clear()
        self.agent_ids.clear()
        self.news.clear()
        return content


class LiveHub:
    """Tells open dashboards what to read again; costs nothing when none is open."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._dashboards: set[_Dashboard] = set()
        self._is_closing = False

    def announce(self, topic: str, agent_id: str) -> None:
        """Remember a change for every open dashboard."""
        for dashboard in self._dashboards:
            dashboard.topics.add(topic)
            if len(dashboard.agent_ids) < MAX_NAMED_AGENTS:
                dashboard.agent_ids.add(agent_id)
            dashboard.news.set()

    def dismiss(self, name: str) -> None:
        """End the streams of somebody who must log in again."""
        for dashboard in self._dashboards:
            if dashboard.name == name:
                dashboard.is_over = True
                dashboard.news.set()

    def close(self) -> None:
        """End every stream: the server is stopping."""
        self._is_closing = True
        for dashboard in self._dashboards:
            dashboard.news.set()

    def routes(self) -> APIRouter:
        """`/api/live`."""
        router = APIRouter(tags=["live"])

        @router.get("/api/live")
        @serves(operators(Role.VIEWER))
        async def live(request: Request) -> Response:
            """The stream of hints at what changed."""
            if len(self._dashboards) >= MAX_DASHBOARDS:
                raise Busy("Too many dashboards are open; this one polls instead.", retry_after_s=30)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(
                self._events(request.state.caller.name), media_type="text/event-stream", headers=headers
            )

        return router

    async def _events(self, name: str) -> AsyncIterator[bytes]:
        dashboard = _Dashboard(name)
        self._dashboards.add(dashboard)
        try:
            yield _event("hello", {"now": time_text(self._clock())})
            while not self._is_closing and not dashboard.is_over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(dashboard.news.wait(), KEEP_ALIVE_S)
                if not dashboard.topics:
                    yield b": still here\n\n"
                    continue
                yield _event("changed", dashboard.taken_news())
                await asyncio.sleep(GATHER_S)
        finally:
            self._dashboards.discard(dashboard)


def _event(name: str, content: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
