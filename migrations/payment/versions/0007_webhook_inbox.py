"""Keep the notifications of payment providers, each of which is applied once."""

from migrations import sql

revision = "0007"
down_revision = "0006"

_UPGRADE = """
CREATE TABLE webhook_inbox (
    provider          text        NOT NULL,
    event_id          text        NOT NULL,
    type              text        NOT NULL,
    reference         text        NOT NULL,
    -- Why it was not applied: empty if it was.
    quarantine_reason text        NOT NULL DEFAULT '',
    receive_time      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, event_id)
);
CREATE INDEX webhook_inbox_quarantine_idx ON webhook_inbox (receive_time)
    WHERE quarantine_reason <> '';
"""

_DOWNGRADE = """
DROP TABLE webhook_inbox;
"""


def upgrade() -> None:
    """Create the table."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop it: providers are asked about payments again."""
    sql.run(_DOWNGRADE)
