"""Denials: every refused caller is audited, yet a flood of them cannot grow the log.

The first denial of a kind gets its row at once; what follows within a minute is counted and written as one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.services.ports import Outside

WINDOW_S = 60
MAX_KINDS = 500
MAX_CLAIM_CHARS = 64
_OVERFLOW = "(many)"


@dataclass(frozen=True, slots=True)
class Denial:
    """Who claimed to be whom, where, and why he was refused; `claim` is hostile text."""

    event_type: str
    reason: str
    claim: str
    path: str


@dataclass(frozen=True, slots=True)
class _Window:
    denial: Denial
    opened_at: datetime
    unwritten: int = 0


class DenialService:
    """Writes the rows, at most one per kind and minute."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._windows: dict[tuple[str, str, str], _Window] = {}

    async def record(self, denial: Denial) -> None:
        """Audit a denial: at once when it is the first of its kind, with others otherwise."""
        now = self._outside.clock()
        key, denial = self._key_of(denial)
        window = self._windows.get(key)
        if window is not None:
            self._windows[key] = replace(window, unwritten=window.unwritten + 1)
            return
        self._windows[key] = _Window(denial, now)
        await self._write([_event(denial, now, count=1)])

    async def flush(self, *, everything: bool = False) -> None:
        """Write the counts of the windows that are over, or of all when the server stops."""
        now = self._outside.clock()
        over = {
            key: window
            for key, window in self._windows.items()
            if everything or (now - window.opened_at).total_seconds() >= WINDOW_S
        }
        for key in over:
            del self._windows[key]
        rows = [_event(window.denial, now, count=window.unwritten) for window in over.values() if window.unwritten]
        if rows:
            await self._write(rows)

    def _key_of(self, denial: Denial) -> tuple[tuple[str, str, str], Denial]:
        claim = ascii(denial.claim)[1:-1][:MAX_CLAIM_CHARS]
        key = (denial.event_type, claim, denial.reason)
        if key not in self._windows and len(self._windows) >= MAX_KINDS:
            key, claim = (denial.event_type, _OVERFLOW, denial.reason), _OVERFLOW
        return key, replace(denial, claim=claim, path=denial.path[:200])

    async def _write(self, events: list[AuditEvent]) -> None:
        await self._outside.store.write(lambda tx: tx.audit.add(events))


def _event(denial: Denial, now: datetime, *, count: int) -> AuditEvent:
    payload: Mapping[str, object] = {
        "claim": denial.claim,
        "reason": denial.reason,
        "path": denial.path,
        "count": count,
    }
    return AuditEvent(now, system_actor("auth"), denial.event_type, denial.claim or None, None, payload)
