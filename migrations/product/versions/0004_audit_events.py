"""Record what staff and admins change."""

from migrations import audit, sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    sql.run(audit.CREATE)


def downgrade() -> None:
    """Drop the table: what was recorded is lost."""
    sql.run(audit.DROP)
