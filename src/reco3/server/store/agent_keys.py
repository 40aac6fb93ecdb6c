"""The `agent_keys` table: hashes, never keys."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from reco3.server.domain.agent_keys import AgentKey, KeySource
from reco3.server.store.tables import agent_keys
from reco3.server.store.upserts import upsert

_columns = [agent_keys.c[name] for name in AgentKey.__dataclass_fields__]


class AgentKeyTable:
    """Reads and writes key hashes inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, keys: Sequence[AgentKey]) -> None:
        """Insert or replace what is known of each PC's key."""
        rows = [{**asdict(key), "source": key.source.value} for key in keys]
        if rows:
            self._connection.execute(upsert(self._connection, agent_keys, keep=("org_id",)), rows)

    def get(self, agent_id: str) -> AgentKey | None:
        """What is known of one PC's key."""
        row = self._connection.execute(select(*_columns).where(agent_keys.c.agent_id == agent_id)).one_or_none()
        return _key(row) if row else None

    def all(self) -> dict[str, AgentKey]:
        """Every PC's key."""
        return {row.agent_id: _key(row) for row in self._connection.execute(select(*_columns))}


def _key(row: Row[Any]) -> AgentKey:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
    return AgentKey(**{**fields, "source": KeySource(fields["source"])})
