"""Run by Alembic: applies the revisions on the connection, and in the transaction, of `migrate.upgrade`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
