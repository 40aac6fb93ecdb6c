"""Agent keys: which hash opens the door for which PC, how one follows another, and what the settings may bring back.

Only hashes appear here; a key itself lives on its PC, and in the settings of those who put it there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

KEY_HASH_PATTERN = re.compile(r"[0-9a-f]{64}")


class KeySource(StrEnum):
    """Where a PC's key came from: `RECO3_AGENT_KEYS`, or the PC itself."""

    SETTINGS = "settings"
    ENROLLED = "enrolled"


@dataclass(frozen=True, slots=True)
class AgentKey:
    """The key of one PC, as SHA-256 in hexadecimal digits.

    `next_key_hash` opens the door beside it until it is used for the first time.
    `settings_key_hash` is what the settings last gave for this PC: as long as they say the same they change nothing.
    """

    agent_id: str
    key_hash: str
    created_at: datetime
    source: KeySource = KeySource.SETTINGS
    next_key_hash: str | None = None
    revoked_at: datetime | None = None
    clone_suspected_at: datetime | None = None
    settings_key_hash: str | None = None

    @property
    def is_revoked(self) -> bool:
        """Whether the key opens nothing any more."""
        return self.revoked_at is not None


@dataclass(frozen=True, slots=True)
class Retired:
    """A key that stands in the settings and opens nothing; `why` is `revoked` or `replaced`."""

    agent_id: str
    why: str


def seeded(known: AgentKey | None, agent_id: str, key_hash: str, now: datetime) -> AgentKey:
    """The PC's key after a start with this one in the settings.

    A key that changed in the settings wins. One that is as before does not undo what was revoked or replaced since.
    """
    if known is None or key_hash not in (_last_seeded(known), known.key_hash):
        return AgentKey(agent_id, key_hash, now, settings_key_hash=key_hash)
    return replace(known, settings_key_hash=key_hash)


def retired(key: AgentKey) -> Retired | None:
    """The PC's key in the settings, if it opens nothing."""
    if key.settings_key_hash is None:
        return None
    if key.settings_key_hash != key.key_hash:
        return Retired(key.agent_id, "replaced")
    return Retired(key.agent_id, "revoked") if key.is_revoked else None


def rotated(key: AgentKey, now: datetime) -> AgentKey:
    """The key after its successor was used: only the successor is left."""
    return replace(key, key_hash=key.next_key_hash or key.key_hash, next_key_hash=None, created_at=now)


def open_hashes(keys: Mapping[str, AgentKey]) -> dict[str, str]:
    """The hash that opens the door, by PC."""
    return {agent_id: key.key_hash for agent_id, key in keys.items() if not key.is_revoked}


def next_hashes(keys: Mapping[str, AgentKey]) -> dict[str, str]:
    """The hash that opens the door besides, by PC."""
    return {
        agent_id: key.next_key_hash
        for agent_id, key in keys.items()
        if key.next_key_hash is not None and not key.is_revoked
    }


def is_key_hash(text: str) -> bool:
    """Whether this is a SHA-256 in lower-case hexadecimal digits."""
    return KEY_HASH_PATTERN.fullmatch(text) is not None


def _last_seeded(key: AgentKey) -> str | None:
    # Rows of older versions do not say what the settings gave; all of them came from there.
    return key.settings_key_hash or (key.key_hash if key.source is KeySource.SETTINGS else None)
