"""The environment of Alembic, which runs revisions on the locked connection of schema.py.

It has no metadata, because revisions are written by hand, in SQL.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
