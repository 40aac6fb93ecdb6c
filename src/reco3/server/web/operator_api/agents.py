"""PCs and their history, as operators read them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from reco3.server.domain.agents import AgentStatus
from reco3.server.domain.metrics import Sample
from reco3.server.domain.operators import Role
from reco3.server.domain.rollups import Spread
from reco3.server.services.agents import AgentPage, AgentService, AgentView
from reco3.server.services.history import HistoryPage, HistoryPoint, HistoryService, Question
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.heartbeats import kept_heartbeat
from reco3.server.web.shapes import optional_time_text, time_text

HISTORY_BY_DEFAULT = timedelta(hours=24)
POINTS_BY_DEFAULT = 300
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_HUNDREDTHS = 100


def agent_routes(agents: AgentService, history: HistoryService, clock: Clock) -> APIRouter:
    """`/api/r3/agents` and a PC's history."""
    router = APIRouter(tags=["agents"])

    @router.get("/api/r3/agents")
    @serves(operators(Role.VIEWER))
    async def list_agents(limit: Annotated[int, Query(ge=1, le=500)] = 200, cursor: str = "") -> Response:
        """Every PC with its status and last metrics, in the order of the ids."""
        page = await agents.list_agents(after=cursor, limit=limit)
        return json_answer(_page_shape(page, limit))

    @router.get("/api/r3/agent/{agent_id}/metrics")
    @serves(operators(Role.VIEWER))
    async def metrics(
        agent_id: str,
        minutes: Annotated[int, Query(ge=1, le=1440)] = 15,
        start: Annotated[AwareDatetime | None, Query(alias="from", ge=EARLIEST)] = None,
        end: Annotated[AwareDatetime | None, Query(alias="to", ge=EARLIEST)] = None,
        points: Annotated[int | None, Query(ge=10, le=2000)] = None,
    ) -> Response:
        """A PC's history between `from` and `to` in at most `points`; without these its samples of some minutes."""
        if start is None and end is None and points is None:
            return json_answer(_samples_shape(await history.recent_samples(agent_id, minutes=minutes), clock()))
        until = end or clock()
        question = Question(agent_id, start or until - HISTORY_BY_DEFAULT, until, points or POINTS_BY_DEFAULT)
        return json_answer(_history_shape(await history.read(question)))

    return router


def _page_shape(page: AgentPage, limit: int) -> dict[str, object]:
    is_full = len(page.views) == limit
    return {
        "agents": [_agent_shape(view) for view in page.views],
        "count": len(page.views),
        "total": page.total,
        "online": page.online,
        "offline": page.total - page.online,
        "next_cursor": page.views[-1].agent.agent_id if is_full else None,
        "now": time_text(page.now),
    }


def _agent_shape(view: AgentView) -> dict[str, object]:
    agent, errors = view.agent, view.errors
    payload_json, metrics = kept_heartbeat(agent.payload_json)
    return {
        "agent_id": agent.agent_id,
        "status": AgentStatus(view.status),
        "last_seen": time_text(agent.last_seen),
        "platform": agent.platform,
        "version": agent.version,
        "mode": agent.mode,
        "apply_enabled": agent.apply_enabled,
        "payload_json": payload_json,
        "metrics": metrics,
        "recent_error_count": errors.count if errors else 0,
        "last_error": errors.last_msg if errors else None,
        "last_error_at": optional_time_text(errors.last_at) if errors else None,
        "org_id": agent.org_id,
        "created_at": time_text(agent.created_at),
        "updated_at": time_text(agent.updated_at),
    }


def _samples_shape(samples: Sequence[Sample], now: datetime) -> dict[str, object]:
    return {"samples": [_sample_shape(sample) for sample in samples], "count": len(samples), "now": time_text(now)}


def _history_shape(page: HistoryPage) -> dict[str, object]:
    return {
        "agent_id": page.agent_id,
        "from": time_text(page.start),
        "to": time_text(page.end),
        "resolution_s": page.step_s,
        "points": [_point_shape(point) for point in page.points],
        "count": len(page.points),
        "now": time_text(page.now),
    }


def _point_shape(point: HistoryPoint) -> dict[str, object]:
    rollup = point.rollup
    traffic = rollup.traffic
    return {
        "ts": time_text(datetime.fromtimestamp(rollup.at_ms / 1000, UTC)),
        "count": rollup.count,
        "expected": point.expected,
        "cpu_percent": _spread_shape(rollup.cpu),
        "mem_percent": _spread_shape(rollup.mem),
        "disk_percent": _spread_shape(rollup.disk),
        "sent_bytes_per_s": _rate_shape(traffic.sent_bytes, traffic.sent_peak, traffic.covered_ms),
        "recv_bytes_per_s": _rate_shape(traffic.recv_bytes, traffic.recv_peak, traffic.covered_ms),
        "restarts": rollup.restarts,
    }


def _spread_shape(spread: Spread) -> dict[str, float] | None:
    if spread.count == 0:
        return None
    return {
        "mean": round(spread.total / spread.count / _HUNDREDTHS, 2),
        "min": spread.lowest / _HUNDREDTHS,
        "max": spread.highest / _HUNDREDTHS,
    }


def _rate_shape(size_bytes: int, peak: int, covered_ms: int) -> dict[str, int] | None:
    if covered_ms == 0:
        return None
    return {"mean": size_bytes * 1000 // covered_ms, "max": peak}


def _sample_shape(sample: Sample) -> dict[str, object]:
    return {
        "ts": time_text(sample.ts),
        "cpu_percent": sample.cpu_percent,
        "mem_percent": sample.mem_percent,
        "disk_percent": sample.disk_percent,
        "net_bytes_sent": sample.net_bytes_sent,
        "net_bytes_recv": sample.net_bytes_recv,
    }
