"""Rename the key of a refund to idempotency_key, as in the proto."""

from migrations import sql

revision = "0002"
down_revision = "0001"

_UPGRADE = """
ALTER TABLE refunds RENAME COLUMN request_id TO idempotency_key;
ALTER TABLE refunds RENAME CONSTRAINT refunds_request_id_check
    TO refunds_idempotency_key_check;
ALTER TABLE refunds RENAME CONSTRAINT refunds_payment_id_request_id_key
    TO refunds_payment_id_idempotency_key_key;
"""

_DOWNGRADE = """
ALTER TABLE refunds RENAME COLUMN idempotency_key TO request_id;
ALTER TABLE refunds RENAME CONSTRAINT refunds_idempotency_key_check
    TO refunds_request_id_check;
ALTER TABLE refunds RENAME CONSTRAINT refunds_payment_id_idempotency_key_key
    TO refunds_payment_id_request_id_key;
"""


def upgrade() -> None:
    """Rename the column and its constraints."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the old names."""
    sql.run(_DOWNGRADE)
