"""Record what staff and admins change."""

from migrations import audit, sql

revision = "0005"
down_revision = "0004"

_REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
"""


def upgrade() -> None:
    """Create the table, and the function of its trigger."""
    sql.run(_REFUSE_CHANGE)
    sql.run(audit.CREATE)


def downgrade() -> None:
    """Drop both: what was recorded is lost."""
    sql.run(audit.DROP)
    sql.run("DROP FUNCTION refuse_change;")
