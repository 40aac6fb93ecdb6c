"""Clones: two PCs with one key are noticed by what they say, and get nothing strong until a person has looked.

Of each PC the journal of its last pull and the run of its last heartbeat are kept in memory; a message costs one
look-up unless that changes.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from reco3.protocol.commands import Severity
from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.domain.clones import JOURNAL_RETURNS, RUN_RETURNS, Trail, follow
from reco3.server.domain.commands import Command
from reco3.server.domain.errors import Busy, Unauthorized
from reco3.server.domain.incidents import Sighting
from reco3.server.services.incidents import IncidentRecorder
from reco3.server.services.ports import Outside, Transaction

CLONE_CODE = "CLONE_SUSPECTED"
SUMMARY = (
    "Two agents take turns with this PC's key: one of them is a copy. Nothing strong is delivered until an operator "
    "has ended the copy and said so (clear-clone), or has revoked the key."
)

log = logging.getLogger(__name__)


class CloneWatch:
    """Follows the journals and runs that PCs name, and raises the alarm."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._recorder = IncidentRecorder(outside.new_id)
        self._journals = _Names(returns=JOURNAL_RETURNS)
        self._runs = _Names(returns=RUN_RETURNS)
        self._suspected: set[str] = set()

    def note(self, agent_id: str, journal: str | None) -> None:
        """A pull of this PC came with this journal; agents of the first protocol name none."""
        if journal is not None and self._journals.latest.get(agent_id) != journal:
            self._follow(self._journals, agent_id, journal)

    def note_run(self, agent_id: str, started_ms: int | None) -> None:
        """A heartbeat of this PC came from the agent that started then; agents of the first protocol do not say."""
        if started_ms is not None and self._runs.latest.get(agent_id) != started_ms:
            self._follow(self._runs, agent_id, started_ms)

    def forget(self, agent_id: str) -> None:
        """Begin anew with this PC."""
        self._journals.forget(agent_id)
        self._runs.forget(agent_id)
        self._suspected.discard(agent_id)

    def _follow(self, names: "_Names", agent_id: str, name: str | int) -> None:
        if names.is_clone(agent_id, name, self._outside.clock()) and agent_id not in self._suspected:
            self._raise_alarm(agent_id)

    def _raise_alarm(self, agent_id: str) -> None:
        try:
            self._outside.store.post_grouped(self._suspect, agent_id, told=partial(self._told, agent_id))
        except Busy:
            return  # The next turn of the two raises it.
        self._suspected.add(agent_id)

    def _told(self, agent_id: str, _: object, error: BaseException | None) -> None:
        if error is not None:
            self._suspected.discard(agent_id)
            return
        log.warning("clone_suspected agent_id=%s", agent_id)
        for topic in ("incidents", "agents"):
            self._outside.announcer.announce(topic, agent_id)

    def _suspect(self, tx: Transaction, agent_ids: Sequence[str]) -> Sequence[None]:
        now = self._outside.clock()
        for agent_id in agent_ids:
            key = tx.keys.get(agent_id)
            if key is not None and key.clone_suspected_at is None:
                tx.keys.put([replace(key, clone_suspected_at=now)])
                self._recorder.record(tx, Sighting(agent_id, CLONE_CODE, Severity.CRITICAL, SUMMARY, now))
                actor = system_actor("clones")
                tx.audit.add([AuditEvent(now, actor, "agent_clone_suspected", agent_id, agent_id)])
        return [None] * len(agent_ids)


class _Names:
    """What each PC named last, and the trails of those whose name changed."""

    def __init__(self, *, returns: int) -> None:
        self.latest: dict[str, str | int] = {}
        self._trails: dict[str, Trail] = {}
        self._returns = returns

    def is_clone(self, agent_id: str, name: str | int, now: datetime) -> bool:
        """Take in another name; returns whether it gives a clone away."""
        known = self.latest.get(agent_id)
        self.latest[agent_id] = name
        if known is None:
            return False
        step = follow(self._trails.get(agent_id) or Trail(str(known)), str(name), now, returns=self._returns)
        self._trails[agent_id] = step.trail
        return step.is_clone

    def forget(self, agent_id: str) -> None:
        """Begin anew with this PC."""
        self.latest.pop(agent_id, None)
        self._trails.pop(agent_id, None)


def deliverable(tx: Transaction, agent_id: str) -> list[Command]:
    """The PC's commands in flight that its pull may speak of: nothing strong while a clone of it is suspected.

    Raises:
        Unauthorized: its key was revoked while it waited.
    """
    key = tx.keys.get(agent_id)
    if key is not None and key.is_revoked:
        raise Unauthorized
    in_flight = tx.commands.in_flight(agent_id)
    is_suspected = key is not None and key.clone_suspected_at is not None
    return [command for command in in_flight if not command.needs_approval] if is_suspected else in_flight
