"""Remember which cancelled payments may still be held by a late call, to release them."""

from migrations import sql

revision = "0006"
down_revision = "0005"

_UPGRADE = """
ALTER TABLE payments
    -- When to cancel the payment at its provider again; NULL if it cannot be held any more.
    ADD COLUMN release_time timestamptz,
    ADD CONSTRAINT payments_release_time_check CHECK (release_time IS NULL OR state = 'CANCELLED');
CREATE INDEX payments_release_time_idx ON payments (provider, release_time)
    WHERE release_time IS NOT NULL;
"""

_DOWNGRADE = """
ALTER TABLE payments DROP COLUMN release_time;
"""


def upgrade() -> None:
    """Add the column and its index."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop both."""
    sql.run(_DOWNGRADE)
