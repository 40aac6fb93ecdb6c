"""The `operators` and `sessions` tables: hashes, never keys or tokens."""

from datetime import datetime

from sqlalchemy import Connection, delete, exists, insert, select

from reco3.server.domain.operators import Role, Session
from reco3.server.store.tables import operators, sessions


class OperatorTable:
    """Reads and writes operators and their sessions inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def has_any(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._connection.execute(select(exists().select_from(operators))).scalar_one())

    def add(self, *, name: str, role: str, api_key_hash: str, now: datetime) -> None:
        """Insert an operator."""
        row = {"name": name, "role": str(role), "api_key_hash": api_key_hash, "created_at": now}
        self._connection.execute(insert(operators), [row])

    def by_key_hash(self, api_key_hash: str) -> tuple[str, str] | None:
        """The name and role of whoever holds the key of that hash."""
        query = select(operators.c.name, operators.c.role).where(operators.c.api_key_hash == api_key_hash)
        row = self._connection.execute(query).one_or_none()
        return (row.name, row.role) if row else None

    def add_session(self, session: Session) -> None:
        """Insert a session."""
        row = {
            "token_hash": session.token_hash,
            "name": session.name,
            "role": session.role.value,
            "created_at": session.created_at,
            "expires_at": session.expires_at,
        }
        self._connection.execute(insert(sessions), [row])

    def session(self, token_hash: str) -> Session | None:
        """The session of that token's hash."""
        row = self._connection.execute(select(sessions).where(sessions.c.token_hash == token_hash)).one_or_none()
        return Session(row.token_hash, row.name, Role(row.role), row.created_at, row.expires_at) if row else None

    def end_session(self, token_hash: str) -> None:
        """Delete a session."""
        self._connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))

    def prune_sessions(self, now: datetime) -> None:
        """Delete the sessions that have expired."""
        self._connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
