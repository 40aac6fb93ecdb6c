"""Commands that tell the truth: expiry, journals, cancellation, resolution, and every report kept as evidence."""

import sqlalchemy as sa
from alembic import op

from reco3.server.store.tables import UtcTime

revision = "0002"
down_revision = "0001"

_row_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns and the table of reports."""
    _add_command_columns()
    op.create_table(
        "command_reports",
        sa.Column("id", _row_number, primary_key=True, autoincrement=True),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("received_at", UtcTime, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("result_json", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )
    op.create_index("ix_command_reports_command_id", "command_reports", ["command_id"])
    op.create_index("ix_command_reports_verdict_id", "command_reports", ["verdict", "id"])
    op.create_index("ix_agent_commands_status_ts", "agent_commands", ["status", "ts"])
    op.create_index("ix_audit_log_ref_id_id", "audit_log", ["ref_id", "id"])


def _add_command_columns() -> None:
    for name, kind in (
        ("reason", sa.Text),
        ("expires_at", UtcTime),
        ("journal", sa.Text),
        ("accepted_at", UtcTime),
        ("cancel_requested_at", UtcTime),
        ("cancel_told_at", UtcTime),
        ("expect_json", sa.Text),
        ("resolution", sa.Text),
        ("resolution_reason", sa.Text),
        ("resolved_by", sa.Text),
        ("resolved_at", UtcTime),
    ):
        op.add_column("agent_commands", sa.Column(name, kind))
    for name in ("delivery_count", "version"):
        op.add_column("agent_commands", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
