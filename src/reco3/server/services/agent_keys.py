"""Agent keys: who may speak as which PC, and how one key follows another.

Only SHA-256 hashes are stored; keys made by RECO3 carry 256 random bits, so a slow hash would add nothing.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from reco3.protocol.limits import is_agent_id
from reco3.server.domain.agent_keys import (
    AgentKey,
    Retired,
    is_key_hash,
    next_hashes,
    open_hashes,
    retired,
    rotated,
    seeded,
)
from reco3.server.domain.audit import AuditEvent, agent_actor, system_actor
from reco3.server.domain.errors import BadInput, Busy, NotFound
from reco3.server.services.ports import Outside, Transaction

_NOBODY = hashlib.sha256(b"no key has this hash").hexdigest()

log = logging.getLogger(__name__)


class AgentKeyService:
    """Checks an agent's headers against a cache of the stored hashes, and changes both together."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._hashes: dict[str, str] = {}
        self._next_hashes: dict[str, str] = {}
        # How often any key changed: whoever found a key valid may rely on it until this does.
        self.changes = 0

    async def seed(self, keys: Mapping[str, str]) -> list[Retired]:
        """Store the configured keys as hashes, and load all that are stored; returns those that open nothing."""
        hashes = {agent_id: _hash(key) for agent_id, key in keys.items()}
        stored = await self._outside.store.write(lambda tx: self._seed(tx, hashes))
        self._hashes, self._next_hashes = open_hashes(stored), next_hashes(stored)
        self.changes += 1
        return [one for agent_id in sorted(hashes) if (one := retired(stored[agent_id])) is not None]

    def is_valid(self, agent_id: str, key: str) -> bool:
        """Whether this key belongs to this PC; as quick for an unknown id as for a wrong key."""
        key_hash = _hash(key)
        stored = self._hashes.get(agent_id, _NOBODY)
        if hmac.compare_digest(stored, key_hash):
            return stored is not _NOBODY and is_agent_id(agent_id)
        following = self._next_hashes.get(agent_id, _NOBODY)
        if hmac.compare_digest(following, key_hash) and following is not _NOBODY:
            self._switch(agent_id, following)
            return True
        return False

    def is_rotating(self, agent_id: str) -> bool:
        """Whether two keys of this PC open the door at the moment."""
        return agent_id in self._next_hashes

    async def announce_next(self, agent_id: str, next_key_hash: str) -> None:
        """Let a PC's next key open the door too, until it is used for the first time.

        Raises:
            BadInput: that is no hash, or the hash of the present key.
        """
        if not is_key_hash(next_key_hash):
            raise BadInput("next_key_hash", "expected a SHA-256 as 64 lower-case hexadecimal digits")
        changed = await self._outside.store.write(lambda tx: self._announce_next(tx, agent_id, next_key_hash))
        self.adopt(changed)

    def adopt(self, key: AgentKey) -> None:
        """Go by this key from now on; it is stored already."""
        self.changes += 1
        for cache in (self._hashes, self._next_hashes):
            cache.pop(key.agent_id, None)
        if key.is_revoked:
            return
        self._hashes[key.agent_id] = key.key_hash
        if key.next_key_hash is not None:
            self._next_hashes[key.agent_id] = key.next_key_hash

    async def reload(self, agent_ids: Sequence[str] | None) -> list[AgentKey]:
        """Go by what is stored for these PCs, or for all, which another process may have changed; returns that."""
        keys = await self._outside.store.read(lambda tx: _stored(tx, agent_ids))
        for key in keys:
            self.adopt(key)
        return keys

    def _switch(self, agent_id: str, key_hash: str) -> None:
        """The next key was used: from now on it is the only one. Should storing fail, both open the door again."""
        told = partial(self._switched, agent_id, self._hashes[agent_id], key_hash)
        try:
            self._outside.store.post_grouped(self._store_switches, (agent_id, key_hash), told=told)
        except Busy:
            return
        self._hashes[agent_id] = self._next_hashes.pop(agent_id)
        self.changes += 1

    def _switched(self, agent_id: str, before: str, key_hash: str, _: object, error: BaseException | None) -> None:
        if error is not None and self._hashes.get(agent_id) == key_hash:
            log.warning("key_switch_not_stored agent_id=%s", agent_id)
            self._hashes[agent_id], self._next_hashes[agent_id] = before, key_hash
            self.changes += 1

    def _store_switches(self, tx: Transaction, items: Sequence[tuple[str, str]]) -> Sequence[None]:
        now = self._outside.clock()
        for agent_id, key_hash in items:
            key = tx.keys.get(agent_id)
            if key is not None and key.next_key_hash == key_hash:
                tx.keys.put([rotated(key, now)])
                tx.audit.add([AuditEvent(now, agent_actor(agent_id), "agent_key_rotated", agent_id, agent_id)])
        return [None] * len(items)

    def _seed(self, tx: Transaction, hashes: Mapping[str, str]) -> dict[str, AgentKey]:
        known, now = tx.keys.all(), self._outside.clock()
        after = {agent_id: seeded(known.get(agent_id), agent_id, key, now) for agent_id, key in hashes.items()}
        tx.keys.put([key for agent_id, key in after.items() if key != known.get(agent_id)])
        fresh = [agent_id for agent_id, key in after.items() if _opens_anew(known.get(agent_id), key)]
        actor = system_actor("settings")
        tx.audit.add([AuditEvent(now, actor, "agent_key_set", agent_id, agent_id, {}) for agent_id in sorted(fresh)])
        return {**known, **after}

    def _announce_next(self, tx: Transaction, agent_id: str, next_key_hash: str) -> AgentKey:
        key, now = require_key(tx, agent_id), self._outside.clock()
        if key.key_hash == next_key_hash:
            raise BadInput("next_key_hash", "expected the hash of another key than the present one")
        changed = replace(key, next_key_hash=next_key_hash)
        if changed != key:
            tx.keys.put([changed])
            tx.audit.add([AuditEvent(now, agent_actor(agent_id), "agent_key_rotation_begun", agent_id, agent_id)])
        return changed


def _stored(tx: Transaction, agent_ids: Sequence[str] | None) -> list[AgentKey]:
    if agent_ids is None:
        return list(tx.keys.all().values())
    return [key for agent_id in agent_ids if (key := tx.keys.get(agent_id)) is not None]


def require_key(tx: Transaction, agent_id: str) -> AgentKey:
    """The key of that PC.

    Raises:
        NotFound: it has none.
    """
    key = tx.keys.get(agent_id) if is_agent_id(agent_id) else None
    if key is None:
        raise NotFound(
            f"No PC named {ascii(agent_id)[:70]} has a key here; enrol it first.", code="agent_key_not_found"
        )
    return key


def _opens_anew(before: AgentKey | None, after: AgentKey) -> bool:
    return before is None or before.key_hash != after.key_hash


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
