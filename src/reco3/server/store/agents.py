"""The `agent_status` table."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from reco3.server.domain.agents import Agent
from reco3.server.store.tables import agent_status
from reco3.server.store.upserts import upsert

_columns = [agent_status.c[name] for name in Agent.__dataclass_fields__]


class AgentTable:
    """Reads and writes agents inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def named(self, agent_ids: Sequence[str]) -> dict[str, Agent]:
        """The agents of these ids, as far as they are known."""
        query = select(*_columns).where(agent_status.c.agent_id.in_(agent_ids))
        return {row.agent_id: _agent(row) for row in self._connection.execute(query)}

    def put(self, agents: Sequence[Agent]) -> None:
        """Insert or replace agents."""
        if agents:
            self._connection.execute(upsert(self._connection, agent_status), [asdict(agent) for agent in agents])

    def page(self, *, after: str, limit: int) -> list[Agent]:
        """The agents after an id, in the order of their ids."""
        query = select(*_columns).where(agent_status.c.agent_id > after).order_by(agent_status.c.agent_id).limit(limit)
        return [_agent(row) for row in self._connection.execute(query)]

    def silent_since(self, cutoff: datetime) -> list[Agent]:
        """The agents that were announced online and were last heard of at or before the cutoff."""
        query = select(*_columns).where(agent_status.c.is_online == true(), agent_status.c.last_seen <= cutoff)
        return [_agent(row) for row in self._connection.execute(query)]

    def earliest_last_seen_online(self) -> datetime | None:
        """The last contact of the online agent that has been silent for longest."""
        query = select(func.min(agent_status.c.last_seen)).where(agent_status.c.is_online == true())
        earliest: datetime | None = self._connection.execute(query).scalar_one()
        return earliest

    def count(self) -> int:
        """How many agents there are."""
        return self._connection.execute(select(func.count()).select_from(agent_status)).scalar_one()

    def count_seen_after(self, cutoff: datetime) -> int:
        """How many agents were heard of after the cutoff."""
        query = (
            select(func.count())
            .select_from(agent_status)
            .where(agent_status.c.is_online == true(), agent_status.c.last_seen > cutoff)
        )
        return self._connection.execute(query).scalar_one()


def _agent(row: Row[Any]) -> Agent:
    return Agent(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
