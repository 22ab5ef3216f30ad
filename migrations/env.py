"""What Alembic runs for each command: revisions, on the connection that schema.py has locked.

No metadata and no autogenerate: revisions are written by hand, in SQL.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
