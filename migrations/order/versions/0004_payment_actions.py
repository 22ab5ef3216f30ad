"""Let an order wait until its customer approves the payment."""

from migrations import sql

revision = "0004"
down_revision = "0003"

_UPGRADE = """
ALTER TABLE orders
    ADD COLUMN manual_capture boolean NOT NULL DEFAULT false,
    ADD COLUMN action_redirect_url text,
    ADD COLUMN action_client_secret text,
    ADD COLUMN action_expire_time timestamptz,
    ADD CONSTRAINT orders_action_check CHECK (
        num_nulls(action_redirect_url, action_client_secret, action_expire_time) IN (0, 3)
        AND (action_expire_time IS NULL OR state = 'PAYING')
    );
"""

_DOWNGRADE = """
ALTER TABLE orders
    DROP COLUMN manual_capture,
    DROP COLUMN action_redirect_url,
    DROP COLUMN action_client_secret,
    DROP COLUMN action_expire_time;
"""


def upgrade() -> None:
    """Add how an order is paid for, and what its customer has to do."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Remove both: the charge of an order that waits is asked for again."""
    sql.run(_DOWNGRADE)
