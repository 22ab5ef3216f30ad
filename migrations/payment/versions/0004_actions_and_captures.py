"""Let payments wait for an action of the customer, or for their capture.

A hold that has a reference of its own, as at PayPal, is stored before it is captured.
"""

from migrations import sql

revision = "0004"
down_revision = "0003"

_UPGRADE = """
ALTER TABLE payments ADD COLUMN authorization_reference text NOT NULL DEFAULT '';

ALTER TABLE sandbox.intents
    ADD COLUMN manual_capture boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT intents_state_check,
    ADD CONSTRAINT intents_state_check CHECK (
        state IN ('UNCONFIRMED', 'REQUIRES_ACTION', 'REQUIRES_CAPTURE', 'SUCCEEDED', 'DECLINED',
                  'CANCELLED')
    );
"""

# An intent that waits can be confirmed again, or cancelled.
_DOWNGRADE = """
UPDATE sandbox.intents SET state = 'UNCONFIRMED'
WHERE state IN ('REQUIRES_ACTION', 'REQUIRES_CAPTURE');
ALTER TABLE sandbox.intents
    DROP COLUMN manual_capture,
    DROP CONSTRAINT intents_state_check,
    ADD CONSTRAINT intents_state_check CHECK (
        state IN ('UNCONFIRMED', 'SUCCEEDED', 'DECLINED', 'CANCELLED')
    );
ALTER TABLE payments DROP COLUMN authorization_reference;
"""


def upgrade() -> None:
    """Add the reference of the hold, and the states of the sandbox."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Remove both."""
    sql.run(_DOWNGRADE)
