"""The `sessions` table: hashes, never tokens."""

from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from reco3.server.domain.operators import Role, Session
from reco3.server.store.tables import sessions


class SessionTable:
    """Reads and writes browsers' sessions inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, session: Session) -> None:
        """Insert a session."""
        row = {
            "token_hash": session.token_hash,
            "name": session.name,
            "role": session.role.value,
            "created_at": session.created_at,
            "expires_at": session.expires_at,
            "proved_at": session.proved_at,
        }
        self._connection.execute(insert(sessions), [row])

    def get(self, token_hash: str) -> Session | None:
        """The session of that token's hash."""
        row = self._connection.execute(select(sessions).where(sessions.c.token_hash == token_hash)).one_or_none()
        return _session(row) if row else None

    def of(self, name: str, *, now: datetime) -> list[Session]:
        """A person's sessions that have not ended, newest first."""
        query = select(sessions).where(sessions.c.name == name, sessions.c.expires_at > now)
        return [_session(row) for row in self._connection.execute(query.order_by(sessions.c.created_at.desc()))]

    def prolong(self, token_hash: str, expires_at: datetime) -> None:
        """Let a session that is used last longer."""
        change = update(sessions).where(sessions.c.token_hash == token_hash)
        self._connection.execute(change.values(expires_at=expires_at))

    def prove(self, token_hash: str, proved_at: datetime) -> None:
        """Note that the person behind a session proved himself."""
        self._connection.execute(
            update(sessions).where(sessions.c.token_hash == token_hash).values(proved_at=proved_at)
        )

    def end(self, token_hash: str) -> None:
        """Delete a session."""
        self._connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))

    def end_all_of(self, name: str, *, keep: str | None = None) -> None:
        """Delete a person's sessions, but for the one of that token's hash."""
        ended = delete(sessions).where(sessions.c.name == name)
        self._connection.execute(ended if keep is None else ended.where(sessions.c.token_hash != keep))

    def prune(self, now: datetime) -> None:
        """Delete the sessions that have expired."""
        self._connection.execute(delete(sessions).where(sessions.c.expires_at <= now))


def _session(row: Row[tuple[object, ...]]) -> Session:
    return Session(row.token_hash, row.name, Role(row.role), row.created_at, row.expires_at, row.proved_at)
