"""Products, their stock, and reservations of it by orders."""

from migrations import sql

revision = "0001"
down_revision = None

_UPGRADE = """
-- English without stop words: a product may be called "The Same".
CREATE TEXT SEARCH DICTIONARY english_stems (TEMPLATE = snowball, Language = english);
CREATE TEXT SEARCH CONFIGURATION english_words (COPY = english);
ALTER TEXT SEARCH CONFIGURATION english_words
    ALTER MAPPING REPLACE english_stem WITH english_stems;

CREATE TABLE products (
    product_id      uuid        PRIMARY KEY DEFAULT uuidv7(),
    sku             text        NOT NULL UNIQUE,
    name            text        NOT NULL CHECK (name <> ''),
    description     text        NOT NULL,
    categories      text[]      NOT NULL,
    price_minor     bigint      NOT NULL CHECK (price_minor >= 0),
    currency_code   text        NOT NULL CHECK (currency_code ~ '^[A-Z]{3}$'),
    -- The digits of the minor unit of the currency: prices compare in units, so that 500 JPY is
    -- more than 9.99 EUR.
    currency_digits integer     NOT NULL CHECK (currency_digits BETWEEN 0 AND 4),
    price_units     numeric     NOT NULL
        GENERATED ALWAYS AS (price_minor / 10.0 ^ currency_digits) STORED,
    image_uri       text        NOT NULL,
    attributes      jsonb       NOT NULL CHECK (jsonb_typeof(attributes) = 'object'),
    search          tsvector    NOT NULL GENERATED ALWAYS AS (
        to_tsvector('english_words', name) || to_tsvector('english_words', description)
    ) STORED,
    version         integer     NOT NULL DEFAULT 1,
    create_time     timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now()
);
-- One per order of a list; create_time uses the primary key, a UUIDv7, and sku its unique index.
CREATE INDEX products_name_idx ON products (name, product_id);
CREATE INDEX products_price_idx ON products (price_units, product_id);
-- One per condition of a filter that few products match.
CREATE INDEX products_categories_idx ON products USING gin (categories);
CREATE INDEX products_attributes_idx ON products USING gin (attributes jsonb_path_ops);
CREATE INDEX products_search_idx ON products USING gin (search);

CREATE TABLE stock (
    product_id uuid   PRIMARY KEY REFERENCES products ON DELETE CASCADE,
    available  bigint NOT NULL CHECK (available >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sold       bigint NOT NULL DEFAULT 0 CHECK (sold >= 0),
    stocked    bigint NOT NULL CHECK (stocked <= 2000000000),
    CHECK (available + reserved + sold = stocked)
) WITH (fillfactor = 70); -- Every order updates rows: room for new versions on the same page.

-- All changes of stock.stocked, which is the sum of the deltas of a product. No foreign key:
-- adjustments outlive their product.
CREATE TABLE stock_adjustments (
    adjustment_id uuid        PRIMARY KEY DEFAULT uuidv7(),
    product_id    uuid        NOT NULL,
    request_id    text        CHECK (length(request_id) BETWEEN 1 AND 255),
    delta         bigint      NOT NULL CHECK (delta <> 0),
    reason        text        NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (product_id, request_id)
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER stock_adjustments_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE reservations (
    order_id            uuid        PRIMARY KEY,
    state               text        NOT NULL CHECK (
        state IN ('RESERVED', 'PINNED', 'COMMITTED', 'RELEASED', 'REJECTED')
    ),
    expires_at          timestamptz CHECK ((expires_at IS NOT NULL) = (state = 'RESERVED')),
    -- A repeated request gets the same rejection.
    rejection_reason    text        CHECK ((rejection_reason IS NOT NULL) = (state = 'REJECTED')),
    rejected_product_id uuid        CHECK (
        (rejected_product_id IS NOT NULL) = (state = 'REJECTED')
    ),
    create_time         timestamptz NOT NULL DEFAULT now(),
    update_time         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reservations_expiry_idx ON reservations (expires_at) WHERE state = 'RESERVED';

-- The lines of reservations, with their prices. No foreign key to products: sold lines outlive
-- them. None to reservations: one transaction inserts both, nothing deletes either, and the check
-- of each line took a quarter of the time of a reservation.
CREATE TABLE reservation_lines (
    order_id      uuid   NOT NULL,
    product_id    uuid   NOT NULL,
    quantity      bigint NOT NULL CHECK (quantity > 0),
    price_minor   bigint NOT NULL CHECK (price_minor >= 0),
    currency_code text   NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
"""

_DOWNGRADE = """
DROP TABLE reservation_lines, reservations, stock_adjustments, stock, products;
DROP FUNCTION refuse_change;
DROP TEXT SEARCH CONFIGURATION english_words;
DROP TEXT SEARCH DICTIONARY english_stems;
"""


def upgrade() -> None:
    """Create the tables."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop them."""
    sql.run(_DOWNGRADE)
