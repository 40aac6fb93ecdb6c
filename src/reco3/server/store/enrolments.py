"""The `enrolment_tokens` table: hashes, never tokens."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from reco3.server.domain.enrolments import EnrolmentToken
from reco3.server.store.tables import enrolment_tokens

_columns = [enrolment_tokens.c[name] for name in EnrolmentToken.__dataclass_fields__]


class EnrolmentTable:
    """Reads and writes enrolment tokens inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, token: EnrolmentToken) -> None:
        """Insert a token."""
        self._connection.execute(insert(enrolment_tokens), [asdict(token)])

    def get(self, token_hash: str) -> EnrolmentToken | None:
        """The token of that hash."""
        return self._one(enrolment_tokens.c.token_hash == token_hash)

    def named(self, token_id: str) -> EnrolmentToken | None:
        """The token of that id."""
        return self._one(enrolment_tokens.c.id == token_id)

    def newest(self, *, limit: int) -> Sequence[EnrolmentToken]:
        """Tokens, newest first."""
        order = (enrolment_tokens.c.created_at.desc(), enrolment_tokens.c.id.desc())
        return [_token(row) for row in self._connection.execute(select(*_columns).order_by(*order).limit(limit))]

    def use(self, token_hash: str, *, used_by: str, now: datetime) -> bool:
        """Spend a token; False when somebody did so before."""
        is_unused = (enrolment_tokens.c.token_hash == token_hash) & enrolment_tokens.c.used_at.is_(None)
        change = update(enrolment_tokens).where(is_unused).values(used_at=now, used_by=used_by)
        return self._connection.execute(change).rowcount == 1

    def remove(self, token_id: str) -> None:
        """Delete a token."""
        self._connection.execute(delete(enrolment_tokens).where(enrolment_tokens.c.id == token_id))

    def prune(self, before: datetime) -> None:
        """Delete the tokens that were made before."""
        self._connection.execute(delete(enrolment_tokens).where(enrolment_tokens.c.created_at < before))

    def _one(self, where: ColumnElement[bool]) -> EnrolmentToken | None:
        row = self._connection.execute(select(*_columns).where(where)).one_or_none()
        return _token(row) if row else None


def _token(row: Row[Any]) -> EnrolmentToken:
    return EnrolmentToken(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
