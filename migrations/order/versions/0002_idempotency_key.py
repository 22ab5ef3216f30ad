"""Rename the key of an order to idempotency_key, as in the proto."""

from migrations import sql

revision = "0002"
down_revision = "0001"

_UPGRADE = """
ALTER TABLE orders RENAME COLUMN client_key TO idempotency_key;
ALTER TABLE orders RENAME CONSTRAINT orders_client_key_check
    TO orders_idempotency_key_check;
ALTER TABLE orders RENAME CONSTRAINT orders_client_key_key
    TO orders_idempotency_key_key;
"""

_DOWNGRADE = """
ALTER TABLE orders RENAME COLUMN idempotency_key TO client_key;
ALTER TABLE orders RENAME CONSTRAINT orders_idempotency_key_check
    TO orders_client_key_check;
ALTER TABLE orders RENAME CONSTRAINT orders_idempotency_key_key
    TO orders_client_key_key;
"""


def upgrade() -> None:
    """Rename the column and its constraints."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the old names."""
    sql.run(_DOWNGRADE)
