"""The first tables: agents, samples, logs, commands, approvals, incidents, audit, keys, operators."""

import sqlalchemy as sa
from alembic import op

from reco3.server.store.tables import UtcTime

revision = "0001"
down_revision = None

_row_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create_agent_tables()
    _create_log_tables()
    _create_command_tables()
    _create_incidents()
    _create_audit_log()
    _create_credential_tables()


def _org_id() -> sa.Column[str]:
    return sa.Column("org_id", sa.Text, nullable=False, server_default="default")


def _create_agent_tables() -> None:
    op.create_table(
        "agent_status",
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("last_seen", UtcTime, nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("payload_json", sa.Text, nullable=False),
        _org_id(),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("mode", sa.Text),
        sa.Column("apply_enabled", sa.Boolean),
        sa.Column("is_online", sa.Boolean, nullable=False),
        sa.Column("rollup_count", sa.Integer, nullable=False),
        sa.Column("rollup_from", UtcTime),
        sa.PrimaryKeyConstraint("agent_id", name="pk_agent_status"),
    )
    op.create_index("ix_agent_status_is_online_last_seen", "agent_status", ["is_online", "last_seen"])
    op.create_table(
        "metric_samples",
        sa.Column("id", _row_number, primary_key=True, autoincrement=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("ts", UtcTime, nullable=False),
        sa.Column("cpu_percent", sa.Float),
        sa.Column("mem_percent", sa.Float),
        sa.Column("disk_percent", sa.Float),
        sa.Column("net_bytes_sent", sa.BigInteger),
        sa.Column("net_bytes_recv", sa.BigInteger),
        _org_id(),
    )
    op.create_index("ix_metric_samples_agent_id_ts", "metric_samples", ["agent_id", "ts"])


def _create_log_tables() -> None:
    op.create_table(
        "agent_logs",
        sa.Column("id", _row_number, primary_key=True, autoincrement=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("ts", UtcTime, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("msg", sa.Text, nullable=False),
        sa.Column("meta_json", sa.Text, nullable=False),
        _org_id(),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_index("ix_agent_logs_agent_id_id", "agent_logs", ["agent_id", "id"])
    op.create_index("ix_agent_logs_agent_id_level_created_at", "agent_logs", ["agent_id", "level", "created_at"])
    op.create_table(
        "log_positions",
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("acked_seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "stream", "epoch", name="pk_log_positions"),
    )


def _create_command_tables() -> None:
    op.create_table(
        "agent_commands",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("ts", UtcTime, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload_json", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("result_json", sa.Text),
        _org_id(),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("delivered_at", UtcTime),
        sa.Column("started_at", UtcTime),
        sa.Column("finished_at", UtcTime),
        sa.PrimaryKeyConstraint("id", name="pk_agent_commands"),
    )
    op.create_index("ix_agent_commands_agent_id_status", "agent_commands", ["agent_id", "status"])
    op.create_index("ix_agent_commands_ts_id", "agent_commands", ["ts", "id"])
    op.create_index("ix_agent_commands_agent_id_ts", "agent_commands", ["agent_id", "ts"])
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
        sa.Column("approved_at", UtcTime, nullable=False),
        _org_id(),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("command_id", name="uq_approvals_command_id"),
    )


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("ts_open", UtcTime, nullable=False),
        sa.Column("ts_close", UtcTime),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("last_seen_at", UtcTime, nullable=False),
        sa.Column("closed_by", sa.Text),
        _org_id(),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_ts_open_id", "incidents", ["ts_open", "id"])
    is_open = sa.text("status = 'open'")
    op.create_index(
        "uq_incidents_open",
        "incidents",
        ["agent_id", "code"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _row_number, primary_key=True, autoincrement=True),
        sa.Column("ts", UtcTime, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("ref_id", sa.Text),
        sa.Column("agent_id", sa.Text),
        sa.Column("payload_json", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        _org_id(),
    )
    op.create_index("ix_audit_log_event_type_id", "audit_log", ["event_type", "id"])


def _create_credential_tables() -> None:
    op.create_table(
        "agent_keys",
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("key_hash", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        _org_id(),
        sa.PrimaryKeyConstraint("agent_id", name="pk_agent_keys"),
    )
    op.create_table(
        "operators",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("api_key_hash", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        _org_id(),
        sa.PrimaryKeyConstraint("name", name="pk_operators"),
        sa.UniqueConstraint("api_key_hash", name="uq_operators_api_key_hash"),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sessions"),
    )
