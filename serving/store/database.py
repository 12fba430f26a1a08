"""Opening a store by URL: `sqlite:///simmer.db` or `postgresql+psycopg://user@host/name`, migrated to this version.

SQLite runs with a write-ahead log and `synchronous=FULL`: what was committed survives a crash of process and machine.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from pipeline.errors import InputError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 10_000  # how long a SQLite writer waits for another process
_MIGRATING = 7_270_001  # PostgreSQL advisory lock: one replica migrates at a time


class StoreUnavailable(RuntimeError):
    """The database cannot be read or written now; the message says why. Nothing was acknowledged."""


class StoreRefused(InputError):
    """A store that cannot be opened at all: a bad URL, or a database of a newer version."""


@dataclass(frozen=True)
class Database:
    """An open store: one engine to write with, one to read with."""

    writing: Engine
    reading: Engine

    @property
    def is_sqlite(self) -> bool:
        return self.writing.dialect.name == "sqlite"

    def close(self) -> None:
        """Give back every connection."""
        self.writing.dispose()
        self.reading.dispose()


def open_database(url: str) -> Database:
    """The store at a URL, its tables brought to this version. Raises StoreRefused or StoreUnavailable."""
    parsed = _parse(url)
    database = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    try:
        migrate(database.writing)
    except (DBAPIError, sqlite3.Error) as error:
        database.close()
        raise StoreUnavailable(f"{_safe(parsed)}: {reason(error)}") from None
    return database


def migrate(engine: Engine) -> None:
    """Bring the tables to this version. Raises StoreRefused where a newer version made them."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except Exception as error:
            if "Can't locate revision" not in str(error):
                raise
            raise StoreRefused("the store was made by a newer version of Simmer") from None


def reason(error: BaseException) -> str:
    """What a database said, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:300] or type(original).__name__


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        raise StoreRefused("store: not a database URL; try sqlite:///simmer.db or postgresql+psycopg://…") from None
    if backend not in ("sqlite", "postgresql"):
        raise StoreRefused(f"store: {backend} is not supported; use sqlite or postgresql")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreRefused("store: a database in memory would lose what was acknowledged; name a file")
    return parsed


def _safe(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _postgresql(url: URL) -> Database:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(
        url, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=5, connect_args={"connect_timeout": 5}
    )
    return Database(engine, engine)


def _sqlite(url: URL) -> Database:
    assert url.database is not None
    Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    writing = create_engine(url, pool_size=1, max_overflow=2)
    reading = create_engine(url, pool_size=8, max_overflow=8, pool_timeout=5)
    event.listen(writing, "connect", _prepare_writing)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _prepare_reading)
    event.listen(reading, "begin", _begin)
    return Database(writing, reading)


def _prepare_writing(raw: Any, _: object) -> None:
    _prepare(raw)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA secure_delete=ON")  # an erased conversation leaves nothing in free pages


def _prepare_reading(raw: Any, _: object) -> None:
    _prepare(raw)
    raw.execute("PRAGMA query_only=ON")


def _prepare(raw: Any) -> None:
    raw.isolation_level = None  # SQLAlchemy's begin event says how a transaction begins, not the driver
    raw.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
