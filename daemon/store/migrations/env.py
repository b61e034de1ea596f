"""Alembic runs this: upgrade over the connection that `daemon.store.migrate` handed in, inside its transaction."""

from __future__ import annotations

from alembic import context

from daemon.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
