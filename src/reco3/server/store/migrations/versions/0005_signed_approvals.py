"""Signed approvals by several people: envelopes, policies, accounts, keys, tokens, enrolment, break-glass."""

import sqlalchemy as sa
from alembic import op

from reco3.server.store.tables import UtcTime

revision = "0005"
down_revision = "0004"

_NAMES = {"uq": "uq_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}


def upgrade() -> None:
    """Add the columns and the tables; several people may now approve one command."""
    with op.batch_alter_table("agent_commands") as table:
        table.add_column(sa.Column("approvals_required", sa.Integer, nullable=False, server_default="1"))
        table.add_column(sa.Column("four_eyes", sa.Boolean, nullable=False, server_default=sa.text("false")))
        table.add_column(sa.Column("rejected_by", sa.Text))
        table.add_column(sa.Column("rejection_reason", sa.Text))
    with op.batch_alter_table("approvals", naming_convention=_NAMES) as table:
        for name in ("comment", "key_id", "signature_json"):
            table.add_column(sa.Column(name, sa.Text))
        table.drop_constraint("uq_approvals_command_id", type_="unique")
        table.create_unique_constraint("uq_approvals_command_id_approved_by", ["command_id", "approved_by"])
    with op.batch_alter_table("agent_keys") as table:
        table.add_column(sa.Column("next_key_hash", sa.Text))
        table.add_column(sa.Column("revoked_at", UtcTime))
        table.add_column(sa.Column("source", sa.Text, nullable=False, server_default="settings"))
        table.add_column(sa.Column("clone_suspected_at", UtcTime))
        table.add_column(sa.Column("settings_key_hash", sa.Text))
    with op.batch_alter_table("operators", naming_convention=_NAMES) as table:
        table.alter_column("api_key_hash", existing_type=sa.Text, nullable=True)
        table.add_column(sa.Column("password_hash", sa.Text))
        table.add_column(sa.Column("created_by", sa.Text))
        table.add_column(sa.Column("disabled_at", UtcTime))
    with op.batch_alter_table("sessions") as table:
        table.add_column(sa.Column("proved_at", UtcTime))
    _create_approval_tables()
    _create_operator_tables()
    _create_other_tables()


def _create_approval_tables() -> None:
    op.create_table(
        "command_envelopes",
        sa.Column("command_id", sa.Text, primary_key=True),
        sa.Column("payload_type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )
    op.create_table(
        "command_comments",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("command_id", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )
    op.create_index("ix_command_comments_command_id_created_at", "command_comments", ["command_id", "created_at"])
    op.create_table(
        "approval_policies",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("command_type", sa.Text, nullable=False),
        sa.Column("agent_pattern", sa.Text, nullable=False),
        sa.Column("approvals_required", sa.Integer, nullable=False),
        sa.Column("four_eyes", sa.Boolean, nullable=False),
        sa.Column("reason_required", sa.Boolean, nullable=False),
        sa.Column("lifetime_s", sa.Integer),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
        sa.UniqueConstraint("command_type", "agent_pattern", name="uq_approval_policies_command_type_agent_pattern"),
    )


def _create_operator_tables() -> None:
    op.create_table(
        "operator_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text),
        sa.Column("origin", sa.Text),
        sa.Column("rp_id", sa.Text),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("revoked_at", UtcTime),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
        sa.UniqueConstraint("credential_id", name="uq_operator_keys_credential_id"),
    )
    op.create_index("ix_operator_keys_owner", "operator_keys", ["owner"])
    op.create_table(
        "api_tokens",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("last_used_at", UtcTime),
        sa.Column("revoked_at", UtcTime),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
        sa.UniqueConstraint("id", name="uq_api_tokens_id"),
    )
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("used_at", UtcTime),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )


def _create_other_tables() -> None:
    op.create_table(
        "enrolment_tokens",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("may_replace", sa.Boolean, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("used_at", UtcTime),
        sa.Column("used_by", sa.Text),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
        sa.UniqueConstraint("id", name="uq_enrolment_tokens_id"),
    )
    op.create_table(
        "break_glass_uses",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("command_type", sa.Text, nullable=False),
        sa.Column("payload_json", sa.Text, nullable=False),
        sa.Column("owners", sa.Text, nullable=False),
        sa.Column("used_at", UtcTime, nullable=False),
        sa.Column("reported_at", UtcTime, nullable=False),
        sa.Column("result_json", sa.Text, nullable=False),
        sa.Column("reviewed_by", sa.Text),
        sa.Column("reviewed_at", UtcTime),
        sa.Column("review", sa.Text),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )
    op.create_index("ix_break_glass_uses_agent_id_used_at", "break_glass_uses", ["agent_id", "used_at"])
    op.create_table(
        "server_facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
