"""A command's life as a list of steps, told from its audit rows."""

from collections.abc import Mapping, Sequence

from reco3.server.domain.audit import RecordedEvent
from reco3.server.web.shapes import time_text

_steps: Mapping[str, str] = {
    "command_created": "requested",
    "command_approved": "approved",
    "command_rejected": "rejected",
    "command_commented": "commented",
    "command_expired": "expired",
    "command_unknown": "unknown",
    "command_cancelled": "cancelled",
    "command_cancel_requested": "cancel_requested",
    "command_resolved": "resolved",
    "report_conflict": "report_conflict",
    "orphan_report": "orphan_report",
}


def timeline_shape(events: Sequence[RecordedEvent]) -> list[dict[str, object]]:
    """The steps, oldest first."""
    return [
        {
            "at": time_text(recorded.event.ts),
            "event": _step(recorded),
            "actor": recorded.event.actor,
            "detail": dict(recorded.event.payload),
        }
        for recorded in events
    ]


def _step(recorded: RecordedEvent) -> str:
    event = recorded.event
    if event.event_type == "agent_pull":
        return "delivered" if event.payload.get("delivery", 1) == 1 else "redelivered"
    if event.event_type == "agent_report":
        return str(event.payload.get("ended") or event.payload.get("status"))
    return _steps.get(event.event_type, event.event_type)
