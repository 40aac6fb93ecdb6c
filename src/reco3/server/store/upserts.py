"""INSERT … ON CONFLICT DO UPDATE, which both databases know but SQLAlchemy spells per dialect."""

from collections.abc import Iterable

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(connection: Connection, table: Table, *, keep: Iterable[str] = ()) -> Executable:
    """An insert that replaces the row of the same primary key, but for the columns in `keep`."""
    keys = [column.name for column in table.primary_key]
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    fixed = {*keys, *keep}
    replaced = {column.name: statement.excluded[column.name] for column in table.c if column.name not in fixed}
    return statement.on_conflict_do_update(index_elements=keys, set_=replaced)
