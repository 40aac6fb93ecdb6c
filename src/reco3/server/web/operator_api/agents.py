"""PCs and their samples, as operators read them."""

import json
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from reco3.server.domain.agents import AgentStatus
from reco3.server.domain.metrics import Sample
from reco3.server.domain.operators import Role
from reco3.server.services.agents import AgentPage, AgentService, AgentView
from reco3.server.services.ports import Clock
from reco3.server.web.audiences import operators, serves
from reco3.server.web.errors import json_answer
from reco3.server.web.shapes import optional_time_text, time_text


def agent_routes(agents: AgentService, clock: Clock) -> APIRouter:
    """`/api/r3/agents` and a PC's samples."""
    router = APIRouter(tags=["agents"])

    @router.get("/api/r3/agents")
    @serves(operators(Role.VIEWER))
    async def list_agents(limit: Annotated[int, Query(ge=1, le=500)] = 200, cursor: str = "") -> Response:
        """Every PC with its status and last metrics, in the order of the ids."""
        page = await agents.list_agents(after=cursor, limit=limit)
        return json_answer(_page_shape(page, limit))

    @router.get("/api/r3/agent/{agent_id}/metrics")
    @serves(operators(Role.VIEWER))
    async def recent_samples(agent_id: str, minutes: Annotated[int, Query(ge=1, le=1440)] = 15) -> Response:
        """A PC's samples of the last minutes, oldest first."""
        samples = await agents.recent_samples(agent_id, minutes=minutes)
        return json_answer(
            {
                "samples": [_sample_shape(sample) for sample in samples],
                "count": len(samples),
                "now": time_text(clock()),
            }
        )

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
    return {
        "agent_id": agent.agent_id,
        "status": AgentStatus(view.status),
        "last_seen": time_text(agent.last_seen),
        "platform": agent.platform,
        "version": agent.version,
        "mode": agent.mode,
        "apply_enabled": agent.apply_enabled,
        "payload_json": agent.payload_json,
        "metrics": json.loads(agent.payload_json).get("metrics") or {},
        "recent_error_count": errors.count if errors else 0,
        "last_error": errors.last_msg if errors else None,
        "last_error_at": optional_time_text(errors.last_at) if errors else None,
        "org_id": agent.org_id,
        "created_at": time_text(agent.created_at),
        "updated_at": time_text(agent.updated_at),
    }


def _sample_shape(sample: Sample) -> dict[str, object]:
    return {
        "ts": time_text(sample.ts),
        "cpu_percent": sample.cpu_percent,
        "mem_percent": sample.mem_percent,
        "disk_percent": sample.disk_percent,
        "net_bytes_sent": sample.net_bytes_sent,
        "net_bytes_recv": sample.net_bytes_recv,
    }
