"""Break-glass: sealed commands that were used on a PC without this server, told once it is back.

What a PC tells is its word alone: it is shown and reviewed, and nothing is decided by it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from reco3.protocol.envelope import MAX_SIGNATURES
from reco3.protocol.limits import MAX_COMMAND_ID_CHARS, MAX_PAYLOAD_BYTES
from reco3.server.domain.commands import bounded_result
from reco3.server.domain.logs import LogLine

BREAK_GLASS_CODE = "BREAK_GLASS_USED"
MAX_REVIEW_CHARS = 2_000
_MAX_OWNER_CHARS = 64
_ID_PATTERN = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_COMMAND_ID_CHARS}}}")
_TYPE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class BreakGlassUse:
    """One use of a sealed command; `payload_json` and `result_json` are JSON objects as text."""

    id: str
    agent_id: str
    command_type: str
    payload_json: str
    owners: tuple[str, ...]
    used_at: datetime
    reported_at: datetime
    result_json: str = "{}"
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    review: str | None = None


def use_of(line: LogLine) -> BreakGlassUse | None:
    """The use that a log line tells of: its `meta` has `break_glass_id`, and what else it knows."""
    use_id = line.meta.get("break_glass_id")
    if line.code != BREAK_GLASS_CODE or not isinstance(use_id, str) or _ID_PATTERN.fullmatch(use_id) is None:
        return None
    command_type = line.meta.get("type")
    is_type = isinstance(command_type, str) and _TYPE_PATTERN.fullmatch(command_type) is not None
    return BreakGlassUse(
        id=use_id,
        agent_id=line.agent_id,
        command_type=str(command_type) if is_type else "UNKNOWN",
        payload_json=_payload_json(line.meta.get("payload")),
        owners=_owners(line.meta.get("owners")),
        used_at=_time(line.meta.get("used_at")) or line.ts,
        reported_at=line.created_at,
        result_json=json.dumps(bounded_result(_object(line.meta.get("result")))),
    )


def _payload_json(value: object) -> str:
    text = json.dumps(_object(value))
    return text if len(text) <= MAX_PAYLOAD_BYTES else "{}"


def _owners(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    names = [name[:_MAX_OWNER_CHARS] for name in value if isinstance(name, str) and name.isprintable()]
    return tuple(names[:MAX_SIGNATURES])


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if moment is None or moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
