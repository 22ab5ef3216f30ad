"""Let each idempotency key of a user make one product."""

from migrations import sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the index, while others write."""
    sql.create_index(
        "products_creator_id_idempotency_key_idx",
        "ON products (creator_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
        unique=True,
    )


def downgrade() -> None:
    """Drop the index."""
    sql.run("DROP INDEX products_creator_id_idempotency_key_idx")
