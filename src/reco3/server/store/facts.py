"""The `server_facts` table: what this server is, once and for all."""

from sqlalchemy import Connection, insert, select

from reco3.server.store.tables import server_facts


class FactTable:
    """Reads and keeps facts inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> str | None:
        """The fact of that name."""
        value: str | None = self._connection.execute(
            select(server_facts.c.value).where(server_facts.c.name == name)
        ).scalar_one_or_none()
        return value

    def keep(self, name: str, value: str) -> str:
        """Keep a fact for good; returns it."""
        self._connection.execute(insert(server_facts), [{"name": name, "value": value}])
        return value
