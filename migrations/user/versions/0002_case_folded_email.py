"""E-mail addresses are unique case-folded, whatever the locale of the database."""

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
    """Replace the index, whose lower() took the locale's word for what a letter is."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Put the index on lower() back."""
    sql.run(_DOWNGRADE)
