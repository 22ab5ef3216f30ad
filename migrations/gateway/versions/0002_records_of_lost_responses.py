"""Idempotency records of requests that were performed, but whose responses were lost."""

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
    """Allow the status of a server error in a record."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Delete such records, and allow none."""
    sql.run(_DOWNGRADE)
