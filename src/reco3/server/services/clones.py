"""Clones: two PCs with one key are noticed by their pulls, and get nothing strong until a person has looked.

Of each PC the journal of its last pull is kept in memory; a pull costs one look-up unless that changes.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from reco3.protocol.commands import Severity
from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.domain.clones import Trail, follow
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
    """Follows the journals that PCs name, and raises the alarm."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._recorder = IncidentRecorder(outside.new_id)
        self._journals: dict[str, str] = {}
        self._trails: dict[str, Trail] = {}
        self._suspected: set[str] = set()

    def note(self, agent_id: str, journal: str | None) -> None:
        """A pull of this PC came with this journal; agents of the first protocol name none."""
        known = self._journals.get(agent_id)
        if known != journal and journal is not None:
            self._note_change(agent_id, known, journal)

    def forget(self, agent_id: str) -> None:
        """Begin anew with this PC."""
        self._journals.pop(agent_id, None)
        self._trails.pop(agent_id, None)
        self._suspected.discard(agent_id)

    def _note_change(self, agent_id: str, known: str | None, journal: str) -> None:
        self._journals[agent_id] = journal
        if known is None:
            return
        trail = self._trails.get(agent_id) or Trail(known)
        step = follow(trail, journal, self._outside.clock())
        self._trails[agent_id] = step.trail
        if step.is_clone and agent_id not in self._suspected:
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
