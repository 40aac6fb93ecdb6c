"""The `trust_changes` table: the bytes as they were built, and the signatures over them."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from reco3.protocol.envelope import Signature, SignedEnvelope, read_signature, signature_shape
from reco3.server.domain.errors import Conflict
from reco3.server.domain.trust_changes import StoredTrustChange
from reco3.server.services.ports import Cursor
from reco3.server.store.paging import is_before
from reco3.server.store.tables import trust_changes

_columns = [trust_changes.c[name] for name in StoredTrustChange.__dataclass_fields__]
_OWNERS = ("old_signed", "new_signed")


class TrustChangeTable:
    """Reads and writes trust changes inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, change: StoredTrustChange) -> None:
        """Insert a change."""
        self._connection.execute(insert(trust_changes), [_row(change)])

    def get(self, change_id: str) -> StoredTrustChange | None:
        """The change of that id."""
        row = self._connection.execute(select(*_columns).where(trust_changes.c.id == change_id)).one_or_none()
        return _change(row) if row else None

    def put(self, change: StoredTrustChange) -> None:
        """Store what has become of a change, if nobody changed it since it was read.

        Raises:
            Conflict: somebody did; the whole transaction must be done anew.
        """
        is_unchanged = (trust_changes.c.id == change.id) & (trust_changes.c.version == change.version)
        changes = {**_row(change), "version": change.version + 1}
        if self._connection.execute(update(trust_changes).where(is_unchanged).values(changes)).rowcount != 1:
            raise Conflict(
                "This trust change was changed by somebody else meanwhile; look again.", code="changed_meanwhile"
            )

    def newest(self, *, before: Cursor | None, limit: int) -> list[StoredTrustChange]:
        """Changes before a cursor, newest first."""
        query = select(*_columns).order_by(trust_changes.c.created_at.desc(), trust_changes.c.id.desc())
        if before is not None:
            query = query.where(is_before(trust_changes.c.created_at, trust_changes.c.id, before))
        return [_change(row) for row in self._connection.execute(query.limit(limit))]

    def relayed(self, now: datetime, *, limit: int) -> list[SignedEnvelope]:
        """What PCs are given: the changes that were published last, those published first among them at the front."""
        query = (
            select(trust_changes.c.payload_type, trust_changes.c.body, trust_changes.c.signatures)
            .where(
                trust_changes.c.published_at.is_not(None),
                trust_changes.c.withdrawn_at.is_(None),
                trust_changes.c.expires_at > now,
            )
            .order_by(trust_changes.c.published_at.desc(), trust_changes.c.id.desc())
            .limit(limit)
        )
        rows = self._connection.execute(query).all()
        return [SignedEnvelope(row.payload_type, row.body, _signatures(row.signatures)) for row in reversed(rows)]

    def revision(self) -> int:
        """How often what PCs are given has changed: each publication, and each withdrawal of what was published."""
        query = select(func.count(trust_changes.c.published_at), func.count(trust_changes.c.withdrawn_at))
        published, withdrawn = self._connection.execute(query.where(trust_changes.c.published_at.is_not(None))).one()
        return int(published) + int(withdrawn)


def _row(change: StoredTrustChange) -> dict[str, object]:
    fields = {name: getattr(change, name) for name in StoredTrustChange.__dataclass_fields__}
    return {
        **fields,
        "signatures": json.dumps([signature_shape(one) for one in change.signatures]),
        **{name: json.dumps(fields[name]) for name in _OWNERS},
    }


def _change(row: Row[Any]) -> StoredTrustChange:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
    signed = {name: tuple(json.loads(fields[name])) for name in _OWNERS}
    return StoredTrustChange(**{**fields, **signed, "signatures": _signatures(fields["signatures"])})


def _signatures(text: str) -> tuple[Signature, ...]:
    return tuple(read_signature(one) for one in json.loads(text))
