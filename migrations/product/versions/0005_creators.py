"""Remember by which request of whom a product was made, so that it can be repeated."""

from migrations import sql

revision = "0005"
down_revision = "0004"

_UPGRADE = """
ALTER TABLE products
    -- All three are NULL for a request without an idempotency key, as they are in all rows from
    -- before, which need no check.
    ADD COLUMN creator_id      uuid,
    ADD COLUMN idempotency_key text,
    ADD COLUMN request_hash    bytea,
    ADD CONSTRAINT products_idempotency_key_check CHECK (
        num_nulls(creator_id, idempotency_key, request_hash) IN (0, 3)
        AND length(idempotency_key) BETWEEN 1 AND 255 AND length(request_hash) = 32
    ) NOT VALID;
"""

_DOWNGRADE = """
ALTER TABLE products
    DROP COLUMN creator_id,
    DROP COLUMN idempotency_key,
    DROP COLUMN request_hash;
"""


def upgrade() -> None:
    """Add the columns."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the columns: a request from before is no longer known."""
    sql.run(_DOWNGRADE)
