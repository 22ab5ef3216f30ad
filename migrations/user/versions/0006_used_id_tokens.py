"""ID tokens of outside identity providers that were used: each begins one session."""

from migrations import sql

revision = "0006"
down_revision = "0005"

_UPGRADE = """
CREATE TABLE used_id_tokens (
    digest      bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    expire_time timestamptz NOT NULL
);
COMMENT ON TABLE used_id_tokens IS 'SHA-256 digests, which are deleted once the tokens expire';
CREATE INDEX used_id_tokens_expire ON used_id_tokens (expire_time);
"""

_DOWNGRADE = """
DROP TABLE used_id_tokens;
"""


def upgrade() -> None:
    """Create the table."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the table: tokens that have not expired can be used again."""
    sql.run(_DOWNGRADE)
