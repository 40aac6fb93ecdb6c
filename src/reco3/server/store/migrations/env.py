"""Alembic's entry: runs the migrations on the connection that `migrating` opened, inside its transaction."""

from alembic import context

from reco3.server.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
