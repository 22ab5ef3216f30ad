"""Rename the key of a stock adjustment to idempotency_key, as in the proto."""

from migrations import sql

revision = "0002"
down_revision = "0001"

_UPGRADE = """
ALTER TABLE stock_adjustments RENAME COLUMN request_id TO idempotency_key;
ALTER TABLE stock_adjustments RENAME CONSTRAINT stock_adjustments_request_id_check
    TO stock_adjustments_idempotency_key_check;
ALTER TABLE stock_adjustments RENAME CONSTRAINT stock_adjustments_product_id_request_id_key
    TO stock_adjustments_product_id_idempotency_key_key;
"""

_DOWNGRADE = """
ALTER TABLE stock_adjustments RENAME COLUMN idempotency_key TO request_id;
ALTER TABLE stock_adjustments RENAME CONSTRAINT stock_adjustments_idempotency_key_check
    TO stock_adjustments_request_id_check;
ALTER TABLE stock_adjustments RENAME CONSTRAINT stock_adjustments_product_id_idempotency_key_key
    TO stock_adjustments_product_id_request_id_key;
"""


def upgrade() -> None:
    """Rename the column and its constraints."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the old names."""
    sql.run(_DOWNGRADE)
