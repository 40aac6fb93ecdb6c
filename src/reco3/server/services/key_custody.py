"""Key custody: what an operator sees of a PC's key, and how he ends it or says that it is in one hand again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from reco3.server.domain.agent_keys import AgentKey
from reco3.server.domain.audit import AuditEvent, user_actor
from reco3.server.domain.errors import Conflict
from reco3.server.domain.incidents import IncidentStatus
from reco3.server.domain.operators import Operator
from reco3.server.services.agent_keys import AgentKeyService, require_key
from reco3.server.services.clones import CLONE_CODE, CloneWatch
from reco3.server.services.ports import Outside, Transaction
from reco3.server.services.wakeups import Wakeups


class KeyCustodyService:
    """What operators do with the keys of PCs."""

    def __init__(self, outside: Outside, keys: AgentKeyService, wakeups: Wakeups, clones: CloneWatch) -> None:
        self._outside = outside
        self._keys = keys
        self._wakeups = wakeups
        self._clones = clones

    async def read(self, agent_id: str) -> AgentKey:
        """What is known of a PC's key.

        Raises:
            NotFound: it has none.
        """
        return await self._outside.store.read(lambda tx: require_key(tx, agent_id))

    async def revoke(self, agent_id: str, operator: Operator, *, reason: str) -> None:
        """End a PC's key at once, its next one with it; a pull that it holds ends too.

        Raises:
            NotFound: it has none.
            Conflict: it is revoked already.
        """
        key = await self._change(_revoked, agent_id, operator, reason)
        self._keys.adopt(key)
        self._clones.forget(agent_id)
        self._wakeups.expel(agent_id)
        self._tell(agent_id)

    async def clear_clone(self, agent_id: str, operator: Operator, *, reason: str) -> None:
        """Say that one PC alone has this key now; what waits for it is delivered again.

        Raises:
            NotFound: it has none.
            Conflict: no clone of it is suspected.
        """
        await self._change(_cleared, agent_id, operator, reason)
        self._clones.forget(agent_id)
        self._wakeups.wake(agent_id)
        self._tell(agent_id)

    async def _change(self, change: "_Change", agent_id: str, operator: Operator, reason: str) -> AgentKey:
        now = self._outside.clock()

        def work(tx: Transaction) -> AgentKey:
            key, event_type = change(tx, require_key(tx, agent_id), operator, now)
            tx.keys.put([key])
            actor = user_actor(operator.name)
            tx.audit.add([AuditEvent(now, actor, event_type, agent_id, agent_id, {"reason": reason})])
            return key

        return await self._outside.store.write(work)

    def _tell(self, agent_id: str) -> None:
        for topic in ("agents", "incidents"):
            self._outside.announcer.announce(topic, agent_id)


_Change = Callable[[Transaction, AgentKey, Operator, datetime], tuple[AgentKey, str]]


def _revoked(_tx: Transaction, key: AgentKey, _operator: Operator, now: datetime) -> tuple[AgentKey, str]:
    if key.is_revoked:
        raise Conflict("This PC's key is revoked already.", code="already_revoked")
    return replace(key, revoked_at=now, next_key_hash=None), "agent_key_revoked"


def _cleared(tx: Transaction, key: AgentKey, operator: Operator, now: datetime) -> tuple[AgentKey, str]:
    if key.clone_suspected_at is None:
        raise Conflict("No clone of this PC is suspected.", code="no_clone_suspected")
    incident = tx.incidents.open_of(key.agent_id, CLONE_CODE)
    if incident is not None:
        tx.incidents.put(replace(incident, status=IncidentStatus.CLOSED, ts_close=now, closed_by=operator.name))
    return replace(key, clone_suspected_at=None), "agent_clone_cleared"
