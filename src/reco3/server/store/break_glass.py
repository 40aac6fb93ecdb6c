"""The `break_glass_uses` table."""

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from reco3.server.domain.break_glass import BreakGlassUse
from reco3.server.services.ports import Cursor
from reco3.server.store.paging import is_before
from reco3.server.store.tables import break_glass_uses

_columns = [break_glass_uses.c[name] for name in BreakGlassUse.__dataclass_fields__]


class BreakGlassTable:
    """Reads and writes uses of sealed commands inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, use_id: str) -> BreakGlassUse | None:
        """The use of that id."""
        row = self._connection.execute(select(*_columns).where(break_glass_uses.c.id == use_id)).one_or_none()
        return _use(row) if row else None

    def add(self, use: BreakGlassUse) -> None:
        """Insert a use."""
        self._connection.execute(insert(break_glass_uses), [_row(use)])

    def put(self, use: BreakGlassUse) -> None:
        """Store what has changed of a use."""
        self._connection.execute(update(break_glass_uses).where(break_glass_uses.c.id == use.id).values(_row(use)))

    def newest(self, *, before: Cursor | None, limit: int) -> list[BreakGlassUse]:
        """Uses before a cursor, those told last first."""
        query = select(*_columns).order_by(break_glass_uses.c.reported_at.desc(), break_glass_uses.c.id.desc())
        if before is not None:
            query = query.where(is_before(break_glass_uses.c.reported_at, break_glass_uses.c.id, before))
        return [_use(row) for row in self._connection.execute(query.limit(limit))]


def _row(use: BreakGlassUse) -> dict[str, object]:
    fields = {name: getattr(use, name) for name in BreakGlassUse.__dataclass_fields__}
    return {**fields, "owners": json.dumps(use.owners)}


def _use(row: Row[Any]) -> BreakGlassUse:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
    return BreakGlassUse(**{**fields, "owners": tuple(json.loads(fields["owners"]))})
