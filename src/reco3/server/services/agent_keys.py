"""Agent keys: who may speak as which PC.

Only SHA-256 hashes are stored; keys made by RECO3 carry 256 random bits, so a slow hash would add nothing.
"""

import hashlib
import hmac
from collections.abc import Mapping

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.audit import AuditEvent, system_actor
from reco3.server.services.ports import Outside, Transaction

_NOBODY = hashlib.sha256(b"no key has this hash").hexdigest()


class AgentKeyService:
    """Checks an agent's headers against a cache of the stored hashes."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._hashes: dict[str, str] = {}

    async def seed(self, keys: Mapping[str, str]) -> None:
        """Store the configured keys as hashes, and load all that are stored."""
        hashes = {agent_id: _hash(key) for agent_id, key in keys.items()}
        self._hashes = await self._outside.store.write(lambda tx: self._seed(tx, hashes))

    def is_valid(self, agent_id: str, key: str) -> bool:
        """Whether this key belongs to this PC; as quick for an unknown id as for a wrong key."""
        stored = self._hashes.get(agent_id, _NOBODY)
        is_same = hmac.compare_digest(stored, _hash(key))
        return is_same and stored is not _NOBODY and is_agent_id(agent_id)

    def _seed(self, tx: Transaction, hashes: Mapping[str, str]) -> dict[str, str]:
        known = tx.keys.all()
        changed = {agent_id: key_hash for agent_id, key_hash in hashes.items() if known.get(agent_id) != key_hash}
        if changed:
            now = self._outside.clock()
            tx.keys.put(changed, now)
            actor = system_actor("settings")
            tx.audit.add(
                [AuditEvent(now, actor, "agent_key_set", agent_id, agent_id, {}) for agent_id in sorted(changed)]
            )
        return {**known, **changed}


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
