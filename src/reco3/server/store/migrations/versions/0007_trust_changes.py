"""Changes that hand the trust of a fleet from old keys to new ones, with the signatures over them."""

import sqlalchemy as sa
from alembic import op

from reco3.server.store.tables import UtcTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "trust_changes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("payload_type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("signatures", sa.Text, nullable=False),
        sa.Column("old_signed", sa.Text, nullable=False),
        sa.Column("new_signed", sa.Text, nullable=False),
        sa.Column("published_at", UtcTime),
        sa.Column("withdrawn_at", UtcTime),
        sa.Column("withdrawn_by", sa.Text),
        sa.Column("withdrawn_reason", sa.Text),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("org_id", sa.Text, nullable=False, server_default="default"),
    )
    op.create_index("ix_trust_changes_created_at_id", "trust_changes", ["created_at", "id"])
