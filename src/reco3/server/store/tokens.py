"""The `api_tokens` table: hashes, never tokens."""

from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from reco3.server.domain.operators import Role
from reco3.server.domain.tokens import ApiToken
from reco3.server.store.tables import api_tokens


class TokenTable:
    """Reads and writes API tokens inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, token: ApiToken) -> None:
        """Insert a token."""
        row = {
            "token_hash": token.token_hash,
            "id": token.id,
            "name": token.name,
            "owner": token.owner,
            "role": token.role.value,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        self._connection.execute(insert(api_tokens), [row])

    def by_hash(self, token_hash: str) -> ApiToken | None:
        """The token of that hash, good or not."""
        row = self._connection.execute(select(api_tokens).where(api_tokens.c.token_hash == token_hash)).one_or_none()
        return _token(row) if row else None

    def of(self, owner: str) -> list[ApiToken]:
        """An owner's tokens that are not revoked, newest first."""
        query = select(api_tokens).where(api_tokens.c.owner == owner, api_tokens.c.revoked_at.is_(None))
        ordered = query.order_by(api_tokens.c.created_at.desc(), api_tokens.c.id)
        return [_token(row) for row in self._connection.execute(ordered)]

    def revoke(self, token_id: str, now: datetime) -> None:
        """Note that a token opens nothing any more."""
        self._connection.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(revoked_at=now))

    def note_use(self, token_id: str, now: datetime) -> None:
        """Note when a token was used last."""
        self._connection.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(last_used_at=now))


def _token(row: Row[tuple[object, ...]]) -> ApiToken:
    return ApiToken(
        token_hash=row.token_hash,
        id=row.id,
        name=row.name,
        owner=row.owner,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
