"""The silent are found in memory; the index that each heartbeat had to move is gone."""

from alembic import op

revision = "0004"
down_revision = "0003"

_NAME = "ix_agent_status_is_online_last_seen"


def upgrade() -> None:
    """Drop the index."""
    op.drop_index(_NAME, "agent_status")


def downgrade() -> None:
    """Create it again."""
    op.create_index(_NAME, "agent_status", ["is_online", "last_seen"])
