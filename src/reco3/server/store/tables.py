"""The tables, one text for SQLite and PostgreSQL.

Names that the contract promises stay as they are; every table that grows carries `org_id` and `agent_id`.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time: ISO-8601 text with milliseconds ending in `Z` on SQLite, `timestamptz` on PostgreSQL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, where text of one width sorts like time."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Towards the database."""
        if value is None or dialect.name != "sqlite":
            return value
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc.isoformat(timespec="milliseconds")[:-6] + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        return value.astimezone(UTC)  # type: ignore[no-any-return]


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column declared INTEGER.
_row_number = BigInteger().with_variant(Integer, "sqlite")


def _org_id() -> Column[str]:
    return Column("org_id", Text, nullable=False, server_default="default")


agent_status = Table(
    "agent_status",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("last_seen", UtcTime, nullable=False),
    Column("platform", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    _org_id(),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("mode", Text),
    Column("apply_enabled", Boolean),
    Column("is_online", Boolean, nullable=False),
    Column("rollup_count", Integer, nullable=False),
    Column("rollup_from", UtcTime),
    # The points of the window that is still open, 41 characters each, and when to close it in Unix seconds.
    Column("open_points", Text, nullable=False, server_default=text("''")),
    Column("points_due_at", BigInteger),
    Column("agent_started_ms", BigInteger),
    # No index on the time: each heartbeat would have to move it, and the silent are found in memory.
)

# History is the largest part of the database, so its rows are bare: times in Unix seconds, clustered by PC on SQLite,
# and no `org_id` text in each: NULL, which costs one byte, says the organisation that the PC's own row names.
metric_chunks = Table(
    "metric_chunks",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("resolution_s", SmallInteger, primary_key=True, autoincrement=False),
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("points", LargeBinary, nullable=False),
    Column("org_id", Text),
    sqlite_with_rowid=False,
)


def _spread(name: str) -> list[Column[int]]:
    """A share in hundredths of a percent: of how many points, their sum, the lowest and the highest."""
    return [
        Column(f"{name}_count", Integer, nullable=False),
        Column(f"{name}_sum", BigInteger, nullable=False),
        Column(f"{name}_min", Integer),
        Column(f"{name}_max", Integer),
    ]


metric_rollups = Table(
    "metric_rollups",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("resolution_s", SmallInteger, primary_key=True, autoincrement=False),
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    *_spread("cpu"),
    *_spread("mem"),
    *_spread("disk"),
    Column("covered_ms", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("recv_bytes", BigInteger, nullable=False),
    Column("sent_peak", BigInteger, nullable=False),
    Column("recv_peak", BigInteger, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("org_id", Text),
    sqlite_with_rowid=False,
)

agent_logs = Table(
    "agent_logs",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=True),
    Column("agent_id", Text, nullable=False),
    Column("ts", UtcTime, nullable=False),
    Column("level", Text, nullable=False),
    Column("code", Text),
    Column("msg", Text, nullable=False),
    Column("meta_json", Text, nullable=False),
    _org_id(),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "agent_id", "id"),
    Index(None, "agent_id", "level", "created_at"),
)

log_positions = Table(
    "log_positions",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("acked_seq", BigInteger, nullable=False),
)

agent_commands = Table(
    "agent_commands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("ts", UtcTime, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("result_json", Text),
    _org_id(),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("delivered_at", UtcTime),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("reason", Text),
    Column("expires_at", UtcTime),
    Column("journal", Text),
    Column("accepted_at", UtcTime),
    Column("cancel_requested_at", UtcTime),
    Column("cancel_told_at", UtcTime),
    Column("expect_json", Text),
    Column("resolution", Text),
    Column("resolution_reason", Text),
    Column("resolved_by", Text),
    Column("resolved_at", UtcTime),
    Column("delivery_count", Integer, nullable=False, server_default="0"),
    Column("version", Integer, nullable=False, server_default="0"),
    Index(None, "agent_id", "status"),
    Index(None, "status", "ts"),
    Index(None, "ts", "id"),
    Index(None, "agent_id", "ts"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("command_id", Text, nullable=False),
    Column("approved_by", Text, nullable=False),
    Column("approved_at", UtcTime, nullable=False),
    _org_id(),
    UniqueConstraint("command_id"),
)

command_reports = Table(
    "command_reports",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=True),
    Column("command_id", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("status", Text, nullable=False),
    Column("result_json", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    _org_id(),
    Index(None, "command_id"),
    Index(None, "verdict", "id"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("ts_open", UtcTime, nullable=False),
    Column("ts_close", UtcTime),
    Column("severity", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
    Column("closed_by", Text),
    _org_id(),
    Index(None, "ts_open", "id"),
    # One open incident per PC and code, held by the database itself.
    Index(
        "uq_incidents_open",
        "agent_id",
        "code",
        unique=True,
        sqlite_where=text("status = 'open'"),
        postgresql_where=text("status = 'open'"),
    ),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=True),
    Column("ts", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("ref_id", Text),
    Column("agent_id", Text),
    Column("payload_json", Text, nullable=False),
    Column("stream", Text, nullable=False),
    _org_id(),
    Index(None, "event_type", "id"),
    Index(None, "ref_id", "id"),
)

agent_keys = Table(
    "agent_keys",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("key_hash", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    _org_id(),
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("api_key_hash", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    _org_id(),
    UniqueConstraint("api_key_hash"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)
