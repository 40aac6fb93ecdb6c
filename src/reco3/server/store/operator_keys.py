"""The `operator_keys` table: public keys of people, kept after they are revoked."""

from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from reco3.protocol.envelope import KeyKind
from reco3.server.domain.keys import OperatorKey
from reco3.server.store.tables import operator_keys


class OperatorKeyTable:
    """Reads and writes operators' keys inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, owner: str) -> list[OperatorKey]:
        """An operator's keys that are not revoked, oldest first."""
        query = select(operator_keys).where(operator_keys.c.owner == owner, operator_keys.c.revoked_at.is_(None))
        ordered = query.order_by(operator_keys.c.created_at, operator_keys.c.key_id)
        return [_key(row) for row in self._connection.execute(ordered)]

    def get(self, key_id: str) -> OperatorKey | None:
        """The key of that id, revoked or not."""
        query = select(operator_keys).where(operator_keys.c.key_id == key_id)
        row = self._connection.execute(query).one_or_none()
        return _key(row) if row else None

    def by_credential(self, credential_id: str) -> OperatorKey | None:
        """The passkey of that credential, revoked or not."""
        query = select(operator_keys).where(operator_keys.c.credential_id == credential_id)
        row = self._connection.execute(query).one_or_none()
        return _key(row) if row else None

    def counts(self) -> dict[str, int]:
        """How many keys each owner has that are not revoked."""
        query = select(operator_keys.c.owner, func.count().label("count")).group_by(operator_keys.c.owner)
        rows = self._connection.execute(query.where(operator_keys.c.revoked_at.is_(None)))
        return {row.owner: int(row[1]) for row in rows}

    def add(self, key: OperatorKey) -> None:
        """Insert a key."""
        row = {
            "key_id": key.key_id,
            "owner": key.owner,
            "kind": key.kind.value,
            "public_key": key.public_key,
            "credential_id": key.credential_id,
            "origin": key.origin,
            "rp_id": key.rp_id,
            "label": key.label,
            "sign_count": key.sign_count,
            "created_at": key.created_at,
        }
        self._connection.execute(insert(operator_keys), [row])

    def revoke(self, key_id: str, now: datetime) -> None:
        """Note that a key counts no longer."""
        self._connection.execute(update(operator_keys).where(operator_keys.c.key_id == key_id).values(revoked_at=now))

    def note_use(self, key_id: str, sign_count: int) -> None:
        """Note how often an authenticator says that it has signed."""
        self._connection.execute(
            update(operator_keys).where(operator_keys.c.key_id == key_id).values(sign_count=sign_count)
        )


def _key(row: Row[tuple[object, ...]]) -> OperatorKey:
    return OperatorKey(
        key_id=row.key_id,
        owner=row.owner,
        kind=KeyKind(row.kind),
        public_key=row.public_key,
        label=row.label,
        created_at=row.created_at,
        credential_id=row.credential_id,
        origin=row.origin,
        rp_id=row.rp_id,
        sign_count=row.sign_count,
        revoked_at=row.revoked_at,
    )
