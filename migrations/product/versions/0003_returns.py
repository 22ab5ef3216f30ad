"""Record the units that were sold to orders and returned."""

from migrations import sql

revision = "0003"
down_revision = "0002"

_UPGRADE = """
-- A return is numbered by its order. Its units left stock.sold for stock.available. No foreign key
-- to products: returns outlive them.
CREATE TABLE stock_returns (
    order_id    uuid        NOT NULL REFERENCES reservations,
    number      integer     NOT NULL CHECK (number >= 1),
    product_id  uuid        NOT NULL,
    quantity    bigint      NOT NULL CHECK (quantity > 0),
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, number, product_id)
);
CREATE TRIGGER stock_returns_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_returns
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

# For the older version, all that was sold is still sold. What was returned and sold again left the
# shop twice, and is added to what was stocked.
_DOWNGRADE = """
WITH returned AS (
    SELECT product_id, sum(quantity) AS units FROM stock_returns GROUP BY product_id
), adjusted AS (
    INSERT INTO stock_adjustments (product_id, delta, reason)
    SELECT product_id, units, 'returned before a downgrade'
    FROM returned JOIN stock USING (product_id)
)
UPDATE stock SET sold = sold + units, stocked = stocked + units
FROM returned WHERE stock.product_id = returned.product_id;
DROP TABLE stock_returns;
"""


def upgrade() -> None:
    """Create the table."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Turn returns into adjustments of the stock, and drop the table."""
    sql.run(_DOWNGRADE)
