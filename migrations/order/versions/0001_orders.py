"""Orders with their lines, and the events that leave the service."""

from migrations import sql

revision = "0001"
down_revision = None

_UPGRADE = """
CREATE TABLE orders (
    order_id         uuid        PRIMARY KEY DEFAULT uuidv7(),
    user_id          uuid        NOT NULL,
    client_key       text        NOT NULL CHECK (length(client_key) BETWEEN 1 AND 255),
    request_hash     bytea       NOT NULL CHECK (length(request_hash) = 32),
    payment_method   text        NOT NULL CHECK (length(payment_method) BETWEEN 1 AND 255),
    state            text        NOT NULL DEFAULT 'PENDING' CHECK (
        state IN ('PENDING', 'RESERVED', 'PAYING', 'PAID', 'CONFIRMED', 'REJECTED', 'CANCELLING',
                  'CANCELLED', 'SHIPPED', 'DELIVERED')
    ),
    version          integer     NOT NULL DEFAULT 1,
    currency_code    text        CHECK (currency_code ~ '^[A-Z]{3}$'),
    total_minor      bigint      CHECK (total_minor >= 0),
    payment_id       uuid,
    refusal_reason   text,
    refusal_message  text,
    refusal_metadata jsonb,
    cancel_requested boolean     NOT NULL DEFAULT false,
    -- An active order is due at next_at, unless a process drives it until lease_until.
    next_at          timestamptz DEFAULT now(),
    lease_until      timestamptz,
    create_time      timestamptz NOT NULL DEFAULT now(),
    update_time      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orders_client_key_key UNIQUE (user_id, client_key),
    CHECK ((currency_code IS NULL) = (total_minor IS NULL)),
    CHECK (
        total_minor IS NOT NULL
        OR state IN ('PENDING', 'REJECTED', 'CANCELLING', 'CANCELLED')
    ),
    CHECK ((payment_id IS NOT NULL) = (state IN ('PAID', 'CONFIRMED', 'SHIPPED', 'DELIVERED'))),
    CHECK ((refusal_reason IS NOT NULL) = (state IN ('REJECTED', 'CANCELLING', 'CANCELLED'))),
    CHECK ((refusal_reason IS NULL) = (refusal_message IS NULL)),
    CHECK ((refusal_reason IS NULL) = (refusal_metadata IS NULL)),
    CHECK (
        (next_at IS NOT NULL) = (state IN ('PENDING', 'RESERVED', 'PAYING', 'PAID', 'CANCELLING'))
    )
) WITH (fillfactor = 50);
CREATE INDEX orders_user_id_idx ON orders (user_id, order_id DESC);
-- The active states, by the check above. Not `WHERE state IN ...`: then each step of an order would
-- write to every index, because PostgreSQL updates in place only what no index mentions.
CREATE INDEX orders_next_at_idx ON orders (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE order_lines (
    order_id         uuid        NOT NULL REFERENCES orders,
    line_number      integer     NOT NULL CHECK (line_number >= 1),
    product_id       uuid        NOT NULL,
    quantity         integer     NOT NULL CHECK (quantity BETWEEN 1 AND 1000000),
    unit_price_minor bigint      CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, line_number)
) WITH (fillfactor = 50);

CREATE TABLE outbox (
    event_id         uuid        PRIMARY KEY DEFAULT uuidv7(),
    order_id         uuid        NOT NULL REFERENCES orders,
    state            text        NOT NULL,
    create_time      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, state)
);
"""

_DOWNGRADE = """
DROP TABLE outbox;
DROP TABLE order_lines;
DROP TABLE orders;
"""


def upgrade() -> None:
    """Create the tables."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the tables."""
    sql.run(_DOWNGRADE)
