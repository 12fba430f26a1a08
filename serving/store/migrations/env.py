"""Alembic's entry: runs migrations over the connection that `serving.store.database.migrate` hands in."""

from __future__ import annotations

from alembic import context

from serving.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
