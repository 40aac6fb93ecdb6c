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


# The newest of the migrations, which make these tables.
SCHEMA_REVISION = "0007"

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
    # On SQLite the journal after the row `points_folded_at` has more of them; PostgreSQL appends them here.
    Column("open_points", Text, nullable=False, server_default=text("''")),
    Column("points_folded_at", BigInteger, nullable=False, server_default=text("0")),
    Column("points_due_at", BigInteger),
    Column("agent_started_ms", BigInteger),
    # No index on the time: each heartbeat would have to move it, and the silent are found in memory.
)

# What the heartbeats of one transaction add to open windows: MessagePack of PC and points. SQLite alone uses it.
# It carries no `org_id`, for a row is of many PCs and lives for minutes.
points_journal = Table(
    "points_journal",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=False),
    Column("points", LargeBinary, nullable=False),
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
    # What the policy of the moment asked for when the command was requested.
    Column("approvals_required", Integer, nullable=False, server_default="1"),
    Column("four_eyes", Boolean, nullable=False, server_default=text("false")),
    Column("rejected_by", Text),
    Column("rejection_reason", Text),
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
    Column("comment", Text),
    # The signature as JSON, None where a person's word on the server was enough.
    Column("key_id", Text),
    Column("signature_json", Text),
    UniqueConstraint("command_id", "approved_by"),
)

command_envelopes = Table(
    "command_envelopes",
    metadata,
    Column("command_id", Text, primary_key=True),
    Column("payload_type", Text, nullable=False),
    # The very bytes that approvers sign and the PC verifies; never built twice, never parsed and written again.
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    _org_id(),
)

command_comments = Table(
    "command_comments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("command_id", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    _org_id(),
    Index(None, "command_id", "created_at"),
)

approval_policies = Table(
    "approval_policies",
    metadata,
    Column("id", Text, primary_key=True),
    # `*` means every type; the pattern names PCs as a shell names files (db-*).
    Column("command_type", Text, nullable=False),
    Column("agent_pattern", Text, nullable=False),
    Column("approvals_required", Integer, nullable=False),
    Column("four_eyes", Boolean, nullable=False),
    Column("reason_required", Boolean, nullable=False),
    Column("lifetime_s", Integer),
    Column("updated_by", Text, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    _org_id(),
    UniqueConstraint("command_type", "agent_pattern"),
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
    # While a PC changes its key both open the door.
    Column("next_key_hash", Text),
    Column("revoked_at", UtcTime),
    Column("source", Text, nullable=False, server_default="settings"),
    # Two PCs seem to use this key: nothing strong is delivered until an operator says which one is real.
    Column("clone_suspected_at", UtcTime),
    # What the settings last gave: unchanged there, it does not bring back what was revoked or replaced here.
    Column("settings_key_hash", Text),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("id", Text, nullable=False),
    # The PC that it is for; None lets the PC choose a name that is not taken.
    Column("agent_id", Text),
    Column("may_replace", Boolean, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    Column("used_by", Text),
    _org_id(),
    UniqueConstraint("id"),
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("api_key_hash", Text),
    Column("created_at", UtcTime, nullable=False),
    _org_id(),
    Column("password_hash", Text),
    Column("created_by", Text),
    Column("disabled_at", UtcTime),
    UniqueConstraint("api_key_hash"),
)

operator_keys = Table(
    "operator_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # Base64, as it is pinned on PCs: 32 bytes for ed25519, a SubjectPublicKeyInfo for the others.
    Column("public_key", Text, nullable=False),
    Column("credential_id", Text),
    Column("origin", Text),
    Column("rp_id", Text),
    Column("label", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    _org_id(),
    Index(None, "owner"),
    UniqueConstraint("credential_id"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime),
    Column("revoked_at", UtcTime),
    _org_id(),
    UniqueConstraint("id"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    _org_id(),
)

break_glass_uses = Table(
    "break_glass_uses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("command_type", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("owners", Text, nullable=False),
    Column("used_at", UtcTime, nullable=False),
    Column("reported_at", UtcTime, nullable=False),
    Column("result_json", Text, nullable=False),
    Column("reviewed_by", Text),
    Column("reviewed_at", UtcTime),
    Column("review", Text),
    _org_id(),
    Index(None, "agent_id", "used_at"),
)

trust_changes = Table(
    "trust_changes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payload_type", Text, nullable=False),
    # The very bytes that owners of keys sign and PCs verify; never built twice, never parsed and written again.
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    # JSON: the signatures as they travel, and the owners of old and of new keys among those who signed.
    Column("signatures", Text, nullable=False),
    Column("old_signed", Text, nullable=False),
    Column("new_signed", Text, nullable=False),
    Column("published_at", UtcTime),
    Column("withdrawn_at", UtcTime),
    Column("withdrawn_by", Text),
    Column("withdrawn_reason", Text),
    Column("version", Integer, nullable=False, server_default="0"),
    _org_id(),
    Index(None, "created_at", "id"),
)

# What this server is, once and for all, such as the id of its fleet.
server_facts = Table(
    "server_facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    # When its owner last proved himself, for what a stolen open browser must not do.
    Column("proved_at", UtcTime),
)
