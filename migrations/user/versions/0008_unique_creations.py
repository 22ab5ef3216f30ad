"""Let each idempotency key of a user make one user."""

from migrations import sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the index, while others write."""
    sql.create_index(
        "users_creator_id_idempotency_key_idx",
        "ON users (creator_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
        unique=True,
    )


def downgrade() -> None:
    """Drop the index."""
    sql.run("DROP INDEX users_creator_id_idempotency_key_idx")
