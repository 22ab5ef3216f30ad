"""Remove the payment state NEW: a payment is inserted with its intent at the provider.

A payment that is NEW has no intent that could have been charged, and no order knows its id: the
next charge of the order inserts it again.
"""

from migrations import sql

revision = "0003"
down_revision = "0002"

_UPGRADE = """
DELETE FROM payments WHERE state = 'NEW';
ALTER TABLE payments DROP CONSTRAINT payments_state_check;
ALTER TABLE payments ADD CONSTRAINT payments_state_check CHECK (
    state IN ('PROCESSING', 'SUCCEEDED', 'DECLINED', 'CANCELLED')
);
"""

_DOWNGRADE = """
ALTER TABLE payments DROP CONSTRAINT payments_state_check;
ALTER TABLE payments ADD CONSTRAINT payments_state_check CHECK (
    state IN ('NEW', 'PROCESSING', 'SUCCEEDED', 'DECLINED', 'CANCELLED')
);
"""


def upgrade() -> None:
    """Delete the payments that are NEW, and forbid the state."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Allow the state again."""
    sql.run(_DOWNGRADE)
