"""Bringing a store's tables to this version. One process migrates at a time; the rest wait and find it done."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from serving.store.faults import StoreRefused

VERSION = "0002"  # of the tables, the newest migration; a test holds it against them
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_270_001  # PostgreSQL advisory lock


def version(engine: Engine) -> str | None:
    """The version of a store's tables; None where there are none."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


def migrate(engine: Engine) -> None:
    """Bring the tables to this version, all or nothing. Raises StoreRefused where a newer version made them."""
    from alembic import command  # loading it takes longer than opening a store that needs nothing
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            if "Can't locate revision" not in str(error):
                raise
            raise StoreRefused("the store was made by a newer version of Simmer") from None
