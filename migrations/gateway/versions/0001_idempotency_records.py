"""Idempotency records: the responses to requests with an Idempotency-Key."""

from migrations import sql

revision = "0001"
down_revision = None

_UPGRADE = """
CREATE TABLE idempotency_records (
    -- SHA-256 of method, path, caller and key.
    record_id    bytea       PRIMARY KEY CHECK (length(record_id) = 32),
    request_hash bytea       NOT NULL CHECK (length(request_hash) = 32),
    -- The attempt that performs the request: once another one has taken over, it cannot finish.
    attempt      uuid        NOT NULL UNIQUE,
    -- The response; NULL while the request is performed.
    status       smallint    CHECK (status BETWEEN 200 AND 499),
    headers      jsonb       CHECK (jsonb_typeof(headers) = 'object'),
    body         bytea,
    create_time  timestamptz NOT NULL DEFAULT now(),
    expire_time  timestamptz NOT NULL,
    CHECK (num_nulls(status, headers, body) IN (0, 3))
);
CREATE INDEX idempotency_records_expire_time ON idempotency_records (expire_time);
"""

_DOWNGRADE = """
DROP TABLE idempotency_records;
"""


def upgrade() -> None:
    """Create the table."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the table."""
    sql.run(_DOWNGRADE)
