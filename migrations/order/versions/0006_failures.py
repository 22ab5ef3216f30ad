"""Let an order have the reason why it waits, also if that is no defect."""

from migrations import sql

revision = "0006"
down_revision = "0005"

_UPGRADE = """
ALTER TABLE orders
    DROP CONSTRAINT orders_failure_check,
    -- The failure is that of the last attempt; since failing_since, all were defects.
    ADD CONSTRAINT orders_failure_check CHECK (
        (failing_since IS NULL OR failure IS NOT NULL)
        AND (next_at < 'infinity' OR failing_since IS NOT NULL)
    );
"""

_DOWNGRADE = """
UPDATE orders SET failure = NULL WHERE failure IS NOT NULL AND failing_since IS NULL;
ALTER TABLE orders
    DROP CONSTRAINT orders_failure_check,
    ADD CONSTRAINT orders_failure_check CHECK (
        (failure IS NULL) = (failing_since IS NULL)
        AND (next_at < 'infinity' OR failure IS NOT NULL)
    );
"""


def upgrade() -> None:
    """Relax the check."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the check, without the reasons that it does not allow."""
    sql.run(_DOWNGRADE)
