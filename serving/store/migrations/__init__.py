"""Alembic's migrations: how the tables came to be what `schema.py` says."""
