"""The list of commands as a table.

It refuses to print a text as it came: every cell is made visible first.
"""

from collections.abc import Sequence
from typing import Any

from reco3.console.texts import aligned, cut, value_text, visible
from reco3.console.times import between, clock_text, duration_text

Json = dict[str, Any]
TITLES = ("ID", "ASKED FOR", "PC", "COMMAND", "STATUS", "ASKED BY", "STANDING")
MAX_CELL_COLUMNS = 60


def table_lines(commands: Sequence[Json], now: object, *, width: int | None) -> list[str]:
    """A header and a line for each command; `width` cuts lines for a terminal."""
    lines = aligned([TITLES, *[_cells(command, now) for command in commands]])
    return [cut(line, width) if width else line for line in lines]


def payload_text(command: Json) -> str:
    """The payload as `key=value` words."""
    payload = command.get("payload")
    if not isinstance(payload, dict):
        return ""
    return " ".join(f"{visible(key)}={value_text(value)}" for key, value in payload.items())


def person(actor: object) -> str:
    """A person by his name, a PC or a part of the server by what it is."""
    kind, mark, name = str(actor or "unknown").partition(":")
    if kind == "user" and mark:
        return visible(name)
    return visible(f"the PC {name}" if kind == "agent" and mark else actor or "unknown")


def is_waiting(command: Json) -> bool:
    """Whether a person has to say yes before anything happens."""
    return command.get("status") == "pending" and bool(command.get("needs_approval")) and not command.get("approved")


def standing(command: Json, now: object) -> str:
    """What has to happen next, or how it ended, in a few words."""
    status = command.get("status")
    if is_waiting(command):
        return f"waits for approval{_expiry_text(command, now)}"
    if status == "pending":
        return f"waits for the PC{_expiry_text(command, now)}"
    if status in ("delivered", "running"):
        return _delivered_text(command)
    if status == "unknown":
        return "we do not know whether it ran: resolve it"
    result = command.get("result")
    if isinstance(result, dict) and result.get("error"):
        return visible(result["error"])
    return _took_text(command)


def _delivered_text(command: Json) -> str:
    if command.get("cancel_requested_at"):
        return "cancel requested"
    return "accepted by the PC, not begun" if command["status"] == "delivered" and command.get("accepted_at") else ""


def _expiry_text(command: Json, now: object) -> str:
    left_s = between(now, command.get("expires_at"))
    return "" if left_s is None else f", expires in {duration_text(left_s)}"


def _took_text(command: Json) -> str:
    approval = command.get("approval")
    start = approval.get("approved_at") if isinstance(approval, dict) else command.get("ts")
    took_s = between(start, command.get("finished_at"))
    if took_s is None or command.get("status") not in ("completed", "failed"):
        return ""
    return f"{duration_text(took_s)} after {'approval' if approval else 'asking'}"


def _cells(command: Json, now: object) -> tuple[str, ...]:
    what = f"{visible(command.get('type'))} {payload_text(command)}".rstrip()
    cells = (
        visible(command.get("id")),
        clock_text(command.get("ts")),
        visible(command.get("agent_id")),
        what,
        visible(command.get("status")),
        person(command.get("created_by")),
        standing(command, now),
    )
    # The id is what other commands are given: it is never cut.
    return (cells[0], *[cut(cell, MAX_CELL_COLUMNS) for cell in cells[1:]])
