"""Log lines: what an agent's entry becomes before it is stored.

A line is never refused for its content: what does not parse is kept beside the line, marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from reco3.protocol.limits import MAX_LOG_CODE_CHARS, MAX_LOG_ENTRIES_PER_BATCH, MAX_LOG_MESSAGE_CHARS
from reco3.protocol.messages import LogBatch, LogEntry
from reco3.server.domain.errors import BadInput

LEVELS = ("INFO", "WARN", "ERROR", "CRITICAL")
MAX_STREAM_CHARS = 64
MAX_SEQ = 2**53

_level_names: Mapping[str, str] = {
    "DEBUG": "INFO",
    "NOTICE": "INFO",
    "WARNING": "WARN",
    "ERR": "ERROR",
    "FATAL": "CRITICAL",
    "CRIT": "CRITICAL",
    "EMERG": "CRITICAL",
    "ALERT": "CRITICAL",
}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One stored line; `id` is 0 until the store has numbered it."""

    agent_id: str
    ts: datetime
    level: str
    code: str | None
    msg: str
    meta: Mapping[str, object]
    created_at: datetime
    id: int = 0


@dataclass(frozen=True, slots=True)
class LogStream:
    """One run of dense numbers: a PC's stream in one epoch of it."""

    agent_id: str
    stream: str
    epoch: str


def stream_of(agent_id: str, batch: LogBatch) -> LogStream | None:
    """The stream that a batch's numbers belong to, or None for an older agent's, which has no numbers."""
    if batch.stream is None or batch.epoch is None or batch.first_seq is None:
        return None
    return LogStream(agent_id, batch.stream, batch.epoch)


def check_batch(batch: LogBatch) -> None:
    """Refuse a batch that is too long or whose numbering is incomplete.

    Raises:
        BadInput: names the field.
    """
    if len(batch.logs) > MAX_LOG_ENTRIES_PER_BATCH:
        raise BadInput("logs", f"expected at most {MAX_LOG_ENTRIES_PER_BATCH} entries, got {len(batch.logs)}")
    numbering = (batch.stream, batch.epoch, batch.first_seq)
    if any(part is None for part in numbering) and any(part is not None for part in numbering):
        raise BadInput("first_seq", "expected stream, epoch and first_seq together, or none of them")
    for name, text in (("stream", batch.stream), ("epoch", batch.epoch)):
        if text is not None and (not 1 <= len(text) <= MAX_STREAM_CHARS or "\0" in text):
            raise BadInput(name, f"expected 1 to {MAX_STREAM_CHARS} characters, none of them NUL")
    if batch.first_seq is not None and not 1 <= batch.first_seq <= MAX_SEQ:
        raise BadInput("first_seq", f"expected a number from 1 to {MAX_SEQ}, got {batch.first_seq}")


def unseen_entries(batch: LogBatch, acked_seq: int) -> list[LogEntry]:
    """The entries of a batch that the server does not hold yet, when it holds all up to `acked_seq`."""
    if batch.first_seq is None:
        return batch.logs
    return batch.logs[max(0, acked_seq + 1 - batch.first_seq) :]


def missing_before(batch: LogBatch, acked_seq: int) -> range:
    """The numbers between what the server holds and what came: lines that it will never get."""
    return range(acked_seq + 1, batch.first_seq if batch.first_seq is not None and batch.logs else 0)


def line_of(agent_id: str, entry: LogEntry, now: datetime) -> LogLine:
    """What an entry becomes: a known level, a UTC time, bounded text."""
    ts = _parsed_time(entry.ts or "")
    meta = dict(entry.meta or {})
    if ts is None and entry.ts:
        meta["ts_sent"] = entry.ts[:MAX_STREAM_CHARS]
    if len(entry.msg) > MAX_LOG_MESSAGE_CHARS:
        meta["chars_cut"] = len(entry.msg) - MAX_LOG_MESSAGE_CHARS
    return LogLine(
        agent_id=agent_id,
        ts=ts or now,
        level=_level_of(entry.level or "ERROR"),
        code=_storable(entry.code)[:MAX_LOG_CODE_CHARS] if entry.code else None,
        msg=_storable(entry.msg)[:MAX_LOG_MESSAGE_CHARS],
        meta=meta,
        created_at=now,
    )


def _storable(text: str) -> str:
    # PostgreSQL takes no NUL in text; its picture says what was there.
    return text.replace("\0", "\u2400")


def _level_of(text: str) -> str:
    level = text.strip().upper()
    level = _level_names.get(level, level)
    return level if level in LEVELS else "ERROR"


def _parsed_time(text: str) -> datetime | None:
    try:
        ts = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    except OverflowError:
        return None
