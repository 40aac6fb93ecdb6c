"""Many rows in one statement: what the hot paths write with.

A row at a time costs two hand-overs of Python's interpreter lock each; a statement of a hundred rows costs two in all.
Only constant names of our own tables become SQL text; every value travels as a parameter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table

from reco3.server.store.tables import UtcTime

# SQLite's lowest limit of parameters in a statement is 32,766 (https://sqlite.org/limits.html#max_variable_number).
ROWS_PER_STATEMENT = 100


@dataclass(frozen=True)
class BulkInsert:
    """An insert of these columns; `tail` is what follows the values, such as ON CONFLICT."""

    table: Table
    columns: tuple[str, ...]
    tail: str = ""

    @cached_property
    def time_places(self) -> tuple[int, ...]:
        """Where in a row the times stand."""
        return tuple(place for place, name in enumerate(self.columns) if isinstance(self.table.c[name].type, UtcTime))

    def run(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert the rows, each a value per column, in the order of `columns`."""
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            # Most rows of a batch share few moments, and often the very same object.
            texts: dict[int, str] = {}
            rows = [_with_time_texts(row, self.time_places, texts) for row in rows]
        for chunk in _chunks(rows):
            statement = _statement(self.table.name, self.columns, self.tail, len(chunk), "?" if is_sqlite else "%s")
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(chunk)))


def time_text(value: datetime) -> str:
    """A UTC time as SQLite keeps it: ISO 8601 with milliseconds, ending in `Z`."""
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


def _with_time_texts(row: Sequence[Any], time_places: tuple[int, ...], texts: dict[int, str]) -> Sequence[Any]:
    if not time_places:
        return row
    values = list(row)
    for place in time_places:
        value = values[place]
        if value is not None:
            values[place] = texts.get(id(value)) or texts.setdefault(id(value), time_text(value))
    return values


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        yield rows[start : start + ROWS_PER_STATEMENT]


@lru_cache(maxsize=2_000)
def _statement(table: str, columns: tuple[str, ...], tail: str, count: int, mark: str) -> str:
    row = f"({','.join([mark] * len(columns))})"
    values = ",".join([row] * count)
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES {values} {tail}"  # noqa: S608 - constant names only
