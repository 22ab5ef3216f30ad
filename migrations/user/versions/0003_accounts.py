"""Roles, verified addresses, sessions, signing keys, and mails that wait to be sent.

Tokens are stored as SHA-256 digests. A mail is stored without its token, which is made when the
mail is sent.
"""

from migrations import sql

revision = "0003"
down_revision = "0002"

_UPGRADE = """
ALTER TABLE users
    ADD COLUMN role           text    NOT NULL DEFAULT 'customer'
        CHECK (role IN ('customer', 'staff', 'admin')),
    ADD COLUMN email_verified boolean NOT NULL DEFAULT false;
CREATE INDEX users_admins ON users (user_id) WHERE role = 'admin';

CREATE TABLE signing_keys (
    key_id        uuid        PRIMARY KEY,
    private_key   bytea       NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT now(),
    activate_time timestamptz NOT NULL UNIQUE
);
COMMENT ON COLUMN signing_keys.private_key IS
    'PKCS #8, encrypted with AES-256-GCM by a key that is not in the database';
COMMENT ON COLUMN signing_keys.activate_time IS
    'When the key begins to sign; it ends when that of the next key is reached';

CREATE TABLE sessions (
    session_id  uuid        PRIMARY KEY DEFAULT uuidv7(),
    user_id     uuid        REFERENCES users ON DELETE SET NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    expire_time timestamptz NOT NULL CHECK (expire_time > create_time),
    revoke_time timestamptz
);
COMMENT ON COLUMN sessions.user_id IS 'NULL once the user is deleted';
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expire ON sessions (expire_time);
CREATE INDEX sessions_revoke ON sessions (revoke_time) WHERE revoke_time IS NOT NULL;

CREATE TABLE refresh_tokens (
    digest      bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    session_id  uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    create_time timestamptz NOT NULL DEFAULT now(),
    use_time    timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE mail_tokens (
    digest      bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    purpose     text        NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    user_id     uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    email       text        NOT NULL,
    expire_time timestamptz NOT NULL
);
COMMENT ON COLUMN mail_tokens.email IS 'The address that the token was sent to';
CREATE INDEX mail_tokens_user ON mail_tokens (user_id);
CREATE INDEX mail_tokens_expire ON mail_tokens (expire_time);

CREATE TABLE mails (
    mail_id     uuid        PRIMARY KEY DEFAULT uuidv7(),
    template    text        NOT NULL CHECK (
        template IN ('verify_email', 'reset_password', 'already_registered', 'email_changed')
    ),
    email       text        NOT NULL CHECK (length(email) <= 254),
    user_id     uuid        REFERENCES users ON DELETE CASCADE,
    create_time timestamptz NOT NULL DEFAULT now(),
    due_time    timestamptz NOT NULL DEFAULT now(),
    attempts    integer     NOT NULL DEFAULT 0
);
COMMENT ON TABLE mails IS 'Mails that are not sent yet: a row is deleted when its mail is sent';
COMMENT ON COLUMN mails.user_id IS 'NULL for an address that may be unknown';
CREATE INDEX mails_due ON mails (due_time);
CREATE INDEX mails_user ON mails (user_id);
"""

_DOWNGRADE = """
DROP TABLE mails, mail_tokens, refresh_tokens, sessions, signing_keys;
DROP INDEX users_admins;
ALTER TABLE users DROP COLUMN email_verified, DROP COLUMN role;
"""


def upgrade() -> None:
    """Create the tables; existing users are customers whose addresses are not verified."""
    sql.run(_UPGRADE)


def downgrade() -> None:
    """Drop the tables: nobody is logged in any more."""
    sql.run(_DOWNGRADE)
