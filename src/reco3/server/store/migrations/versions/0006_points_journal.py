"""On SQLite the points of open windows go to a journal instead of the PCs' own rows."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the journal, and where in it each PC's own row ends; what is open stays in the rows."""
    op.create_table(
        "points_journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("points", sa.LargeBinary, nullable=False),
    )
    op.add_column(
        "agent_status", sa.Column("points_folded_at", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
