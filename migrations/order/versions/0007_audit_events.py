"""Record what staff and admins change."""

from migrations import audit, sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    sql.run(audit.CREATE)


def downgrade() -> None:
    """Drop the table: what was recorded is lost."""
    sql.run(audit.DROP)
