"""Payments, refunds, the ledger, and the books of the sandbox provider."""

from migrations import sql

revision = "0001"
down_revision = None

_UPGRADE = """
CREATE TABLE payments (
    payment_id         uuid        PRIMARY KEY DEFAULT uuidv7(),
    order_id           uuid        NOT NULL UNIQUE,
    state              text        NOT NULL CHECK (
        state IN ('NEW', 'PROCESSING', 'SUCCEEDED', 'DECLINED', 'CANCELLED')
    ),
    amount_minor       bigint      CHECK (amount_minor >= 0),
    currency_code      text        CHECK (currency_code ~ '^[A-Z]{3}$'),
    provider           text        NOT NULL DEFAULT '',
    provider_reference text        NOT NULL DEFAULT '',
    decline_reason     text        NOT NULL DEFAULT '',
    refunded_minor     bigint      NOT NULL DEFAULT 0,
    version            integer     NOT NULL DEFAULT 1,
    create_time        timestamptz NOT NULL DEFAULT now(),
    update_time        timestamptz NOT NULL DEFAULT now(),
    CHECK ((amount_minor IS NULL) = (currency_code IS NULL)),
    -- The tombstone of an order that was cancelled before its charge began has no amount.
    CHECK (amount_minor IS NOT NULL OR state = 'CANCELLED'),
    CHECK (refunded_minor BETWEEN 0 AND coalesce(amount_minor, 0)),
    CHECK (refunded_minor = 0 OR state = 'SUCCEEDED'),
    CHECK (provider_reference <> '' OR state <> 'PROCESSING'),
    CHECK ((decline_reason <> '') = (state = 'DECLINED'))
);
CREATE UNIQUE INDEX payments_provider_reference_key ON payments (provider, provider_reference)
    WHERE provider_reference <> '';

CREATE TABLE refunds (
    payment_id         uuid        NOT NULL REFERENCES payments,
    number             integer     NOT NULL CHECK (number >= 1),
    request_id         text        CHECK (length(request_id) BETWEEN 1 AND 255),
    amount_minor       bigint      NOT NULL CHECK (amount_minor > 0),
    currency_code      text        NOT NULL CHECK (currency_code ~ '^[A-Z]{3}$'),
    state              text        NOT NULL DEFAULT 'PENDING' CHECK (
        state IN ('PENDING', 'SUCCEEDED', 'FAILED')
    ),
    provider_reference text        NOT NULL DEFAULT '',
    create_time        timestamptz NOT NULL DEFAULT now(),
    update_time        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payment_id, number),
    UNIQUE (payment_id, request_id)
);

CREATE TABLE transactions (
    transaction_id     uuid        PRIMARY KEY DEFAULT uuidv7(),
    payment_id         uuid        NOT NULL REFERENCES payments,
    order_id           uuid        NOT NULL,
    type               text        NOT NULL CHECK (type IN ('CHARGE', 'REFUND')),
    amount_minor       bigint      NOT NULL CHECK (amount_minor > 0),
    currency_code      text        NOT NULL CHECK (currency_code ~ '^[A-Z]{3}$'),
    provider_reference text        NOT NULL,
    create_time        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX transactions_payment_id_idx ON transactions (payment_id, transaction_id);
CREATE UNIQUE INDEX transactions_charge_key ON transactions (payment_id) WHERE type = 'CHARGE';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The sandbox stands for a payment provider, which is a remote system. Only providers/sandbox.py
-- accesses this schema, and it never joins it with the tables above.
CREATE SCHEMA sandbox;

CREATE TABLE sandbox.intents (
    reference       text        PRIMARY KEY DEFAULT 'pi_' || replace(uuidv7()::text, '-', ''),
    idempotency_key text        NOT NULL UNIQUE,
    amount_minor    bigint      NOT NULL CHECK (amount_minor > 0),
    currency_code   text        NOT NULL,
    state           text        NOT NULL DEFAULT 'UNCONFIRMED' CHECK (
        state IN ('UNCONFIRMED', 'SUCCEEDED', 'DECLINED', 'CANCELLED')
    ),
    decline_reason  text        NOT NULL DEFAULT '',
    refunded_minor  bigint      NOT NULL DEFAULT 0,
    create_time     timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now(),
    CHECK (refunded_minor BETWEEN 0 AND amount_minor)
);

CREATE TABLE sandbox.movements (
    reference        text        PRIMARY KEY DEFAULT 'mv_' || replace(uuidv7()::text, '-', ''),
    intent_reference text        NOT NULL REFERENCES sandbox.intents,
    type             text        NOT NULL CHECK (type IN ('CAPTURE', 'REFUND')),
    amount_minor     bigint      NOT NULL CHECK (amount_minor > 0),
    idempotency_key  text        UNIQUE,
    create_time      timestamptz NOT NULL DEFAULT now(),
    CHECK ((idempotency_key IS NOT NULL) = (type = 'REFUND'))
);
CREATE INDEX movements_intent_reference_idx ON sandbox.movements (intent_reference);
CREATE TRIGGER movements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sandbox.movements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

_DOWNGRADE = """
DROP TABLE sandbox.movements, sandbox.intents;
DROP SCHEMA sandbox;
DROP TABLE transactions, refunds, payments;
DROP FUNCTION refuse_change;
"""


def upgrade() -> None:
    """Create the tables of the service and the schema of the sandbox."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop both."""
    sql.run(_DOWNGRADE)
