"""The `agent_keys` table: hashes, never keys."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select

from reco3.server.store.tables import agent_keys
from reco3.server.store.upserts import upsert


class AgentKeyTable:
    """Reads and writes key hashes inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, hashes: Mapping[str, str], now: datetime) -> None:
        """Insert or replace the hash of each PC."""
        rows = [{"agent_id": agent_id, "key_hash": value, "created_at": now} for agent_id, value in hashes.items()]
        if rows:
            self._connection.execute(upsert(self._connection, agent_keys), rows)

    def all(self) -> dict[str, str]:
        """Every PC's key hash."""
        rows = self._connection.execute(select(agent_keys.c.agent_id, agent_keys.c.key_hash))
        return {row.agent_id: row.key_hash for row in rows}
