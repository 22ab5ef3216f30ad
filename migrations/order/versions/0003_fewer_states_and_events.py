"""Remove the states RESERVED and PAID, and replace the outbox by a log of all events."""

from migrations import sql

revision = "0003"
down_revision = "0002"

# An order that is RESERVED was to become PAYING next. One that is PAID was charged: as PAYING, its
# charge is asked for again, and the payment service returns the payment that succeeded.
_UPGRADE = """
UPDATE orders SET state = 'PAYING', payment_id = NULL, version = version + 1
WHERE state IN ('RESERVED', 'PAID');

ALTER TABLE orders
    DROP CONSTRAINT orders_state_check,
    DROP CONSTRAINT orders_check2,
    DROP CONSTRAINT orders_check6,
    DROP COLUMN cancel_requested,
    -- How often in succession the order could not be driven; and, if a defect was the reason since
    -- some time, that time and the defect.
    ADD COLUMN attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN failure text,
    ADD CONSTRAINT orders_state_check CHECK (
        state IN ('PENDING', 'PAYING', 'CONFIRMED', 'REJECTED', 'CANCELLING', 'CANCELLED',
                  'SHIPPED', 'DELIVERED')
    ),
    ADD CONSTRAINT orders_payment_id_check CHECK (
        (payment_id IS NOT NULL) = (state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED'))
    ),
    -- 'infinity' is the time of an order that is stuck until somebody redrives it.
    ADD CONSTRAINT orders_next_at_check CHECK (
        (next_at IS NOT NULL) = (state IN ('PENDING', 'PAYING', 'CANCELLING'))
    ),
    ADD CONSTRAINT orders_failure_check CHECK (
        (failure IS NULL) = (failing_since IS NULL)
        AND (next_at < 'infinity' OR failure IS NOT NULL)
    );

-- One row per version of an order, written by the statement that changes the order; therefore
-- without a foreign key, whose check would cost as much as the row.
CREATE TABLE order_events (
    order_id   uuid        NOT NULL,
    version    integer     NOT NULL,
    state      text        NOT NULL,
    cause      text        NOT NULL CHECK (cause IN ('CLIENT', 'WORKER', 'MIGRATION')),
    details    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    event_time timestamptz NOT NULL DEFAULT now(),
    -- Readers of all events follow the order of these two. A transaction that commits late has a
    -- number that is not read before it has ended.
    xact_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    event_id   bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (order_id, version)
);
CREATE UNIQUE INDEX order_events_feed_key ON order_events (xact_id, event_id);

INSERT INTO order_events (order_id, version, state, cause, event_time)
SELECT order_id, version, state, 'MIGRATION', update_time FROM orders ORDER BY order_id;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER order_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DROP TABLE outbox;
"""

_DOWNGRADE = """
CREATE TABLE outbox (
    event_id         uuid        PRIMARY KEY DEFAULT uuidv7(),
    order_id         uuid        NOT NULL REFERENCES orders,
    state            text        NOT NULL,
    create_time      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, state)
);
INSERT INTO outbox (order_id, state, create_time)
SELECT order_id, 'CONFIRMED', update_time FROM orders
WHERE state IN ('CONFIRMED', 'SHIPPED', 'DELIVERED') ORDER BY order_id;

DROP TABLE order_events;
DROP FUNCTION refuse_change;

-- Nothing is stuck for the older version.
UPDATE orders SET next_at = now() WHERE next_at = 'infinity';
ALTER TABLE orders
    DROP CONSTRAINT orders_state_check,
    DROP CONSTRAINT orders_payment_id_check,
    DROP CONSTRAINT orders_next_at_check,
    DROP CONSTRAINT orders_failure_check,
    DROP COLUMN attempts,
    DROP COLUMN failing_since,
    DROP COLUMN failure,
    ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT orders_state_check CHECK (
        state IN ('PENDING', 'RESERVED', 'PAYING', 'PAID', 'CONFIRMED', 'REJECTED', 'CANCELLING',
                  'CANCELLED', 'SHIPPED', 'DELIVERED')
    ),
    ADD CONSTRAINT orders_check2 CHECK (
        (payment_id IS NOT NULL) = (state IN ('PAID', 'CONFIRMED', 'SHIPPED', 'DELIVERED'))
    ),
    ADD CONSTRAINT orders_check6 CHECK (
        (next_at IS NOT NULL) = (state IN ('PENDING', 'RESERVED', 'PAYING', 'PAID', 'CANCELLING'))
    );
"""


def upgrade() -> None:
    """Carry the orders over, and begin the log of events with their states."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the states and the outbox."""
    sql.run(_DOWNGRADE)
