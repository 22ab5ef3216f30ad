"""Number refunds by their orders, and keep them in balance with payments and the ledger."""

from migrations import sql

revision = "0005"
down_revision = "0004"

# The order service makes refunds now, has their idempotency keys, and numbers those of an order
# from 1. The refunds from before make way: 1,000,000 is added to their numbers, or the provider
# would take a new refund for the old one with its number. A downgrade leaves the numbers as they
# are, and marks the refunds of the order service, whose numbers stay when it is undone.
#
# A change of what was refunded is a change of three tables, which only agree at the end of a
# transaction. Charges meet the conditions of no trigger.
_UPGRADE = """
-- What a provider keeps with a refund, and can find it by when it has forgotten the key.
ALTER TABLE sandbox.movements ADD COLUMN number integer CHECK (number >= 1);
ALTER TABLE sandbox.movements DISABLE TRIGGER movements_append_only;
UPDATE sandbox.movements SET number = split_part(idempotency_key, ':', 3)::integer
WHERE type = 'REFUND';
UPDATE sandbox.movements SET
    number = number + 1000000,
    idempotency_key = format('%s:%s:%s', split_part(idempotency_key, ':', 1),
                             split_part(idempotency_key, ':', 2), number + 1000000)
WHERE type = 'REFUND' AND number <= 1000000 AND NOT EXISTS (
    SELECT FROM payments JOIN refunds USING (payment_id)
    WHERE payments.provider_reference = intent_reference AND refunds.number = movements.number
        AND refunds.idempotency_key = 'order-service:' || refunds.number
);
ALTER TABLE sandbox.movements
    ENABLE TRIGGER movements_append_only,
    ADD CHECK ((number IS NOT NULL) = (type = 'REFUND'));

UPDATE refunds SET number = number + 1000000
WHERE number <= 1000000 AND idempotency_key IS DISTINCT FROM 'order-service:' || number;
ALTER TABLE refunds DROP COLUMN idempotency_key;

CREATE FUNCTION check_refunded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM payments WHERE payment_id = NEW.payment_id AND (
            refunded_minor <> (
                SELECT coalesce(sum(amount_minor), 0) FROM refunds
                WHERE refunds.payment_id = NEW.payment_id AND state = 'SUCCEEDED'
            ) OR refunded_minor <> (
                SELECT coalesce(sum(amount_minor), 0) FROM transactions
                WHERE transactions.payment_id = NEW.payment_id AND type = 'REFUND'
            )
        )
    ) THEN
        RAISE EXCEPTION 'the refunds of payment % are not in balance', NEW.payment_id
            USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER payments_refunded_check AFTER UPDATE OF refunded_minor ON payments
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.refunded_minor <> OLD.refunded_minor) EXECUTE FUNCTION check_refunded();
CREATE CONSTRAINT TRIGGER refunds_refunded_check AFTER INSERT OR UPDATE ON refunds
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_refunded();
CREATE CONSTRAINT TRIGGER transactions_refunded_check AFTER INSERT ON transactions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.type = 'REFUND') EXECUTE FUNCTION check_refunded();
"""

_DOWNGRADE = """
ALTER TABLE sandbox.movements DROP COLUMN number;
DROP TRIGGER payments_refunded_check ON payments;
DROP TRIGGER refunds_refunded_check ON refunds;
DROP TRIGGER transactions_refunded_check ON transactions;
DROP FUNCTION check_refunded;
-- By the first name of the column, and renamed, as it was before: indexes keep first names.
ALTER TABLE refunds
    ADD COLUMN request_id text CHECK (length(request_id) BETWEEN 1 AND 255),
    ADD UNIQUE (payment_id, request_id);
ALTER TABLE refunds RENAME COLUMN request_id TO idempotency_key;
ALTER TABLE refunds RENAME CONSTRAINT refunds_request_id_check
    TO refunds_idempotency_key_check;
ALTER TABLE refunds RENAME CONSTRAINT refunds_payment_id_request_id_key
    TO refunds_payment_id_idempotency_key_key;
UPDATE refunds SET idempotency_key = 'order-service:' || number WHERE number <= 1000000;
"""


def upgrade() -> None:
    """Drop the idempotency keys of refunds, create the constraints, and shift the numbers."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the constraints and the sandbox's numbers, and restore the column of the keys."""
    sql.run(_DOWNGRADE)
