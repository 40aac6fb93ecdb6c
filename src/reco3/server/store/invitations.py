"""The `invitations` table: hashes, never links."""

from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from reco3.server.domain.operators import Invitation, Role
from reco3.server.store.tables import invitations


class InvitationTable:
    """Reads and writes invitations inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, invitation: Invitation) -> None:
        """Insert an invitation."""
        row = {
            "token_hash": invitation.token_hash,
            "name": invitation.name,
            "role": invitation.role.value,
            "created_by": invitation.created_by,
            "created_at": invitation.created_at,
            "expires_at": invitation.expires_at,
        }
        self._connection.execute(insert(invitations), [row])

    def open_one(self, token_hash: str, *, now: datetime) -> Invitation | None:
        """The invitation of that token's hash, while it may be used."""
        query = select(invitations).where(
            invitations.c.token_hash == token_hash, invitations.c.used_at.is_(None), invitations.c.expires_at > now
        )
        row = self._connection.execute(query).one_or_none()
        return _invitation(row) if row else None

    def all_open(self, *, now: datetime) -> list[Invitation]:
        """The invitations that may still be used, in the order of the names."""
        query = select(invitations).where(invitations.c.used_at.is_(None), invitations.c.expires_at > now)
        return [_invitation(row) for row in self._connection.execute(query.order_by(invitations.c.name))]

    def use(self, token_hash: str, now: datetime) -> None:
        """Note that an invitation was used."""
        self._connection.execute(update(invitations).where(invitations.c.token_hash == token_hash).values(used_at=now))

    def withdraw(self, name: str) -> bool:
        """Delete the unused invitations of that name; says whether there were any."""
        unused = delete(invitations).where(invitations.c.name == name, invitations.c.used_at.is_(None))
        return self._connection.execute(unused).rowcount > 0

    def withdraw_those_by(self, created_by: str) -> None:
        """Delete the unused invitations that somebody made."""
        unused = delete(invitations).where(invitations.c.created_by == created_by, invitations.c.used_at.is_(None))
        self._connection.execute(unused)


def _invitation(row: Row[tuple[object, ...]]) -> Invitation:
    return Invitation(row.token_hash, row.name, Role(row.role), row.created_by, row.created_at, row.expires_at)
