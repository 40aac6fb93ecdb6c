"""Says what became of a break-glass sheet, so that the server alarms everybody once it hears of it.

It refuses to pass over one that was refused: somebody stood at the PC with it.
"""

import json
from datetime import datetime

from reco3.agent.clocks import as_text
from reco3.agent.lifecycle import Entry, State
from reco3.protocol.commands import Severity
from reco3.protocol.messages import LogEntry

USED_CODE = "BREAK_GLASS_USED"
REFUSED_CODE = "BREAK_GLASS_REFUSED"
MAX_OUTPUT_CHARS = 2_000


def was_used(entry: Entry) -> bool:
    """Whether it began; one that was refused changed nothing."""
    return entry.began_at is not None or entry.state is State.DONE


def log_entry_of(entry: Entry, *, now: datetime) -> LogEntry:
    """What the server is told, once it is over."""
    order = entry.order
    owners = list(order.signed_by) if order else []
    used_by = order.used_by if order else None
    used = was_used(entry)
    ending = entry.state.lower() if used else "refused"
    return LogEntry(
        msg=f"break-glass at this PC by {used_by}: {entry.type}, signed by {', '.join(owners)}: {ending}",
        ts=as_text(entry.began_at or now),
        level=Severity.CRITICAL if used else Severity.WARN,
        code=USED_CODE if used else REFUSED_CODE,
        meta={
            "break_glass_id": entry.command_id,
            "type": entry.type,
            "payload": _payload(order.payload_json if order else None),
            "owners": owners,
            "used_by": used_by,
            "used_at": as_text(entry.began_at or now),
            "result": _shortened(entry.result or {}),
        },
    )


def _payload(payload_json: object) -> object:
    try:
        return json.loads(payload_json) if isinstance(payload_json, str) else {}
    except ValueError:
        return {}


def _shortened(result: dict[str, object]) -> dict[str, object]:
    """A log line has less room than a report: the details stay in this PC's journal."""
    kept = ("success", "output", "error", "code", "exit_code", "signed_by")
    return {
        name: value[-MAX_OUTPUT_CHARS:] if isinstance(value, str) else value
        for name, value in result.items()
        if name in kept
    }
