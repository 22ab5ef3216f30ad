"""Users, with their addresses and password hashes."""

from migrations import sql

revision = "0001"
down_revision = None

_UPGRADE = """
CREATE TABLE users (
    user_id       uuid        PRIMARY KEY DEFAULT uuidv7(),
    email         text        NOT NULL CHECK (length(email) <= 254),
    display_name  text        NOT NULL CHECK (display_name <> ''),
    addresses     jsonb       NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(addresses) = 'array'),
    password_hash text        NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    version       integer     NOT NULL DEFAULT 1,
    create_time   timestamptz NOT NULL DEFAULT now(),
    update_time   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
"""

_DOWNGRADE = """
DROP TABLE users;
"""


def upgrade() -> None:
    """Create the table."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the table."""
    sql.run(_DOWNGRADE)
