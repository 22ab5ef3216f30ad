"""E-mail addresses are unique after case folding, whatever the locale of the database."""

from migrations import sql

revision = "0002"
down_revision = "0001"

_UPGRADE = """
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_email_key ON users (casefold(email COLLATE pg_unicode_fast));
"""

_DOWNGRADE = """
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
"""


def upgrade() -> None:
    """Replace the index on lower(), which depends on the locale."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Restore the index on lower()."""
    sql.run(_DOWNGRADE)
