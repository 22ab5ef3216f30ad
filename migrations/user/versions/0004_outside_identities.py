"""Users of outside identity providers, who need no password."""

from migrations import sql

revision = "0004"
down_revision = "0003"

_UPGRADE = """
ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL;

CREATE TABLE outside_identities (
    issuer      text        NOT NULL,
    subject     text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    user_id     uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX outside_identities_user ON outside_identities (user_id);
"""

# Users without a password get a hash that no password has: they may still ask for a new one.
_DOWNGRADE = """
DROP TABLE outside_identities;
UPDATE users SET password_hash = '$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$' || repeat('A', 43)
 WHERE password_hash IS NULL;
ALTER TABLE users ALTER COLUMN password_hash SET NOT NULL;
"""


def upgrade() -> None:
    """Create the table, and let users be without a password."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the table; its users can log in again after they have reset their passwords."""
    sql.run(_DOWNGRADE)
