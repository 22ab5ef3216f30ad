"""Idempotency records of requests that were carried out, and whose response could not be shown."""

from migrations import sql

revision = "0002"
down_revision = "0001"

_UPGRADE = """
ALTER TABLE idempotency_records
    DROP CONSTRAINT idempotency_records_status_check,
    ADD CONSTRAINT idempotency_records_status_check CHECK (status BETWEEN 200 AND 599);
"""

_DOWNGRADE = """
DELETE FROM idempotency_records WHERE status >= 500;
ALTER TABLE idempotency_records
    DROP CONSTRAINT idempotency_records_status_check,
    ADD CONSTRAINT idempotency_records_status_check CHECK (status BETWEEN 200 AND 499);
"""


def upgrade() -> None:
    """Let a record hold a failure of the server."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Forget such records, and take no more of them."""
    sql.run(_DOWNGRADE)
