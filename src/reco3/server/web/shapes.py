"""How values look on the wire to operators, where more than one route shows them."""

import base64
import binascii
from datetime import UTC, datetime
from functools import lru_cache

from reco3.protocol.envelope import signed_envelope_shape
from reco3.server.domain.approvals import Comment
from reco3.server.domain.commands import Approval, Command, Expectation, Pulled, Resolution
from reco3.server.domain.errors import BadInput
from reco3.server.services.ports import Cursor


@lru_cache(maxsize=64)  # A whole batch of heartbeats is answered with few moments.
def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, ending in `Z`."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def optional_time_text(moment: datetime | None) -> str | None:
    """RFC 3339, or None."""
    return None if moment is None else time_text(moment)


def approval_shape(approval: Approval | None) -> dict[str, object] | None:
    """A human's yes, or None."""
    if approval is None:
        return None
    signature = approval.signature
    return {
        "id": approval.id,
        "approved_by": approval.approved_by,
        "approved_at": time_text(approval.approved_at),
        "kind": signature.kind if signature else None,
        "key_id": signature.key_id if signature else None,
        "comment": approval.comment,
    }


def comment_shape(comment: Comment) -> dict[str, object]:
    """What somebody said about a command."""
    return {
        "id": comment.id,
        "author": comment.author,
        "text": comment.text,
        "created_at": time_text(comment.created_at),
    }


def expectation_shape(expectation: Expectation | None) -> dict[str, object] | None:
    """What the approver saw, or None."""
    if expectation is None:
        return None
    return {"pid": expectation.pid, "create_time_ms": expectation.create_time_ms}


def order_shape(command: Command) -> dict[str, object]:
    """A command as a PC receives it; what was signed travels as it was built."""
    order = _plain_order_shape(command)
    signed = command.signed_envelope
    return order if signed is None else {**order, "envelope": signed_envelope_shape(signed)}


def _plain_order_shape(command: Command) -> dict[str, object]:
    return {
        "id": command.id,
        "agent_id": command.agent_id,
        "ts": time_text(command.ts),
        "type": command.type,
        "payload_json": command.payload_json,
        "status": command.status,
        "strength": command.strength,
        "approved": command.is_approved,
        "approval": approval_shape(command.approval),
        "expires_at": time_text(command.expires_at),
        "delivery": command.delivery_count,
        "expect": expectation_shape(command.expectation),
    }


def pull_shape(pulled: Pulled, *, journal: str | None, poll_after_s: int | None) -> dict[str, object]:
    """The answer to a pull; an agent that names its journal also hears what it should forget."""
    answer: dict[str, object] = {"commands": [order_shape(command) for command in pulled.commands]}
    if journal is not None:
        answer["cancels"] = list(pulled.cancels)
    if poll_after_s is not None:
        answer["poll_after_s"] = poll_after_s
    return answer


def resolution_shape(resolution: Resolution | None) -> dict[str, object] | None:
    """A person's word on an unknown command, or None."""
    if resolution is None:
        return None
    return {
        "outcome": resolution.outcome,
        "reason": resolution.reason,
        "resolved_by": resolution.resolved_by,
        "resolved_at": time_text(resolution.resolved_at),
    }


def cursor_text(ts: datetime, row_id: str) -> str:
    """An opaque place in a list that is sorted by time."""
    return base64.urlsafe_b64encode(f"{time_text(ts)} {row_id}".encode()).decode()


def parse_cursor(text: str | None) -> Cursor | None:
    """The place that `cursor_text` wrote.

    Raises:
        BadInput: it is none of ours.
    """
    if text is None:
        return None
    try:
        ts, _, row_id = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
        moment = datetime.fromisoformat(ts)
        is_ours = cursor_text(moment, row_id) == text and row_id.isprintable()
    except (ValueError, OverflowError, binascii.Error) as err:
        raise _bad_cursor() from err
    if not is_ours:
        raise _bad_cursor()
    return moment, row_id


def parse_row_cursor(text: str | None) -> int | None:
    """The row number that a list sorted by number was left at.

    Raises:
        BadInput: it is none of ours.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004 - a 64-bit number
        raise _bad_cursor()
    return int(text)


def _bad_cursor() -> BadInput:
    return BadInput("cursor", "expected the next_cursor of the previous answer")
