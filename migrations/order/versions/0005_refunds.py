"""Refunds of orders, and their notes on the rows of the orders."""

from migrations import sql

revision = "0005"
down_revision = "0004"

_UPGRADE = """
ALTER TABLE orders
    -- The sum of all refunds that are PENDING or SUCCEEDED, and the number of those PENDING.
    ADD COLUMN refunded_minor bigint NOT NULL DEFAULT 0,
    ADD COLUMN pending_refunds integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT orders_refunded_minor_check CHECK (
        refunded_minor BETWEEN 0 AND coalesce(total_minor, 0)
        AND (refunded_minor = 0 OR state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED'))
    ),
    ADD CONSTRAINT orders_pending_refunds_check CHECK (
        pending_refunds >= 0 AND (pending_refunds = 0 OR refunded_minor > 0)
    ),
    DROP CONSTRAINT orders_next_at_check,
    ADD CONSTRAINT orders_next_at_check CHECK (
        (next_at IS NOT NULL) = (
            state IN ('PENDING', 'PAYING', 'CANCELLING') OR pending_refunds > 0
        )
    );

CREATE TABLE order_refunds (
    order_id        uuid        NOT NULL REFERENCES orders,
    number          integer     NOT NULL CHECK (number >= 1),
    idempotency_key text        NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash    bytea       NOT NULL CHECK (length(request_hash) = 32),
    amount_minor    bigint      NOT NULL CHECK (amount_minor > 0),
    currency_code   text        NOT NULL CHECK (currency_code ~ '^[A-Z]{3}$'),
    state           text        NOT NULL DEFAULT 'PENDING' CHECK (
        state IN ('PENDING', 'SUCCEEDED', 'FAILED')
    ),
    create_time     timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, number),
    UNIQUE (order_id, idempotency_key)
);

-- The units that a refund puts back into stock.
CREATE TABLE order_refund_lines (
    order_id        uuid        NOT NULL,
    number          integer     NOT NULL,
    product_id      uuid        NOT NULL,
    quantity        integer     NOT NULL CHECK (quantity BETWEEN 1 AND 1000000),
    PRIMARY KEY (order_id, number, product_id),
    FOREIGN KEY (order_id, number) REFERENCES order_refunds
);
"""

# The payment service keeps its refunds, and those that are PENDING there stay so.
_DOWNGRADE = """
DROP TABLE order_refund_lines, order_refunds;

UPDATE orders SET
    pending_refunds = 0, next_at = NULL, lease_until = NULL, failing_since = NULL, failure = NULL
WHERE pending_refunds > 0;
ALTER TABLE orders
    DROP CONSTRAINT orders_refunded_minor_check,
    DROP CONSTRAINT orders_pending_refunds_check,
    DROP CONSTRAINT orders_next_at_check,
    DROP COLUMN refunded_minor,
    DROP COLUMN pending_refunds,
    ADD CONSTRAINT orders_next_at_check CHECK (
        (next_at IS NOT NULL) = (state IN ('PENDING', 'PAYING', 'CANCELLING'))
    );
"""


def upgrade() -> None:
    """Create the tables, and the columns of the notes."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop them, and what is noted."""
    sql.run(_DOWNGRADE)
